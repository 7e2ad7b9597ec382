// @huggingface/transformers reads our bundles in Node and writes the same greedy text.
//
//     npm install --ignore-scripts @huggingface/transformers
//     node transformers_js.mjs FOLDER
//
// FOLDER is what make.py made. Run it where the package is installed.
import fs from "node:fs"
import path from "node:path"
import { env, pipeline } from "@huggingface/transformers"

const folder = path.resolve(process.argv[2])
env.allowRemoteModels = false
env.localModelPath = folder + "/"
const expected = JSON.parse(fs.readFileSync(path.join(folder, "expected.json"), "utf-8"))
const kinds = { fp32: "model", fp16: "model_fp16", q8: "model_quantized", int8: "model_int8", q4: "model_q4" }
for (const [name, wanted] of Object.entries(expected))
  for (const [dtype, file] of Object.entries(kinds)) {
    const ours = wanted.files[file + ".onnx"]
    if (!ours) continue
    try {
      const write = await pipeline("text-generation", name, { dtype, device: "cpu" })
      const out = await write(wanted.prompt, { max_new_tokens: ours.new.length, do_sample: false, eos_token_id: null,
                                               return_full_text: false })
      const text = out[0].generated_text
      let same = 0
      while (same < Math.min(text.length, ours.text.length) && text[same] === ours.text[same]) same++
      console.log(`${name.padEnd(16)} ${dtype.padEnd(5)} ${same} of ${ours.text.length} characters equal`)
    } catch (error) { console.log(`${name} ${dtype} ${String(error).slice(0, 160)}`) }
  }
