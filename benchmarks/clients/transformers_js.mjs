// @huggingface/transformers reads our bundles in Node and writes the same greedy text.
//
//     npm install --ignore-scripts @huggingface/transformers
//     node transformers_js.mjs FOLDER [BUNDLE ...]
//
// FOLDER is what make.py made. Run it in the folder where the package is installed. Exits with 1 unless the text
// is equal, of rounded weights the probabilities close (checks.py says why).
import fs from "node:fs"
import { createRequire } from "node:module"
import path from "node:path"
import { pathToFileURL } from "node:url"

const installed = createRequire(path.join(process.cwd(), "here.js")).resolve("@huggingface/transformers")
const { env, pipeline } = await import(pathToFileURL(installed))
const folder = path.resolve(process.argv[2])
const names = process.argv.slice(3)
env.allowRemoteModels = false
env.localModelPath = folder + "/"
const expected = JSON.parse(fs.readFileSync(path.join(folder, "expected.json"), "utf-8"))
const EXACT = ["fp32", "fp16"], CLOSE = 2e-3
const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length
const logShares = (row) => {
  const top = Math.max(...row), total = top + Math.log(row.reduce((sum, value) => sum + Math.exp(value - top), 0))
  return row.map((value) => value - total)
}
const divergence = (ours, theirs) => {
  const one = logShares(ours), other = logShares(theirs)
  return one.reduce((sum, p, place) => sum + Math.exp(p) * (p - other[place]), 0)
}
const kinds = { fp32: "model", fp16: "model_fp16", q8: "model_quantized", int8: "model_int8", q4: "model_q4" }
for (const [name, wanted] of Object.entries(expected)) {
  if (names.length && !names.some((start) => name.startsWith(start))) continue
  for (const [dtype, file] of Object.entries(kinds)) {
    const ours = wanted.files[file + ".onnx"]
    if (!ours) continue
    try {
      const write = await pipeline("text-generation", name, { dtype, device: "cpu" })
      const settings = { max_new_tokens: ours.new.length, do_sample: false, return_full_text: false }
      for (const [more, expected, given] of [["", ours.text, { ...settings, eos_token_id: null }],
                                             [", to its end", ours.ended_text, settings]]) {
        const text = (await write(wanted.prompt, given))[0].generated_text
        let same = 0
        while (same < Math.min(text.length, expected.length) && text[same] === expected[same]) same++
        console.log(`${name.padEnd(18)} ${(file + ".onnx").padEnd(22)} ${same} of ${expected.length} characters ` +
                    `equal${more}`)
        if (text !== expected && EXACT.includes(dtype)) process.exitCode = 1
      }
      if (wanted.chat) {
        const chat = write.tokenizer.apply_chat_template(wanted.chat.messages, { add_generation_prompt: true,
                                                                                return_tensor: false })
        const ids = Array.isArray(chat) ? chat : chat.input_ids
        if (String(ids.flat()) !== String(wanted.chat.ids)) {
          console.log(`${name.padEnd(18)} the chat is cut into ${ids}, and should be ${wanted.chat.ids}`)
          process.exitCode = 1
        }
      }
      const { logits } = await write.model(write.tokenizer(wanted.read, { add_special_tokens: false }))
      const apart = mean(logits.tolist()[0].map((row, place) => divergence(ours.logits[place], row)))
      console.log(`${name.padEnd(18)} ${(file + ".onnx").padEnd(22)} KL divergence ${apart.toExponential(1)} at ` +
                  `${ours.logits.length} places`)
      if (!(apart < CLOSE)) process.exitCode = 1
    } catch (error) {
      console.log(`${name.padEnd(18)} ${(file + ".onnx").padEnd(22)} ${String(error).slice(0, 200)}`)
      process.exitCode = 1
    }
  }
}
