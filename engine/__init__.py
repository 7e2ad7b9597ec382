"""The engine: the path that data takes on its way to a language model.

    corpus     documents in, clean documents out, with a ledger of what was removed and why
    tokens     documents -> tokenizer -> packed shards -> batches
    model      a decoder of named blocks, compatible with published families
    optim      optimizers, parameter groups and learning-rate schedules
    stages     what a batch means and what the loss is
    runs       the process that does the work, and the folder that tells of it
    plan       arithmetic on a recipe before it is run: memory, time, energy, money, the loss to expect
    evaluate   loss, perplexity, bits per byte, and a report
    export     ONNX bundles, and the proof that a bundle is the same model
    inference  load(bundle) -> text, with numpy, tokenizers and onnxruntime alone

A noun imports only what stands above it here, plus the floor that all stand on: `config`,
`table`, `files`, `progress` and `workspace`. `recipe` gathers the configs of one run;
`runs` puts everything to work. Nothing here imports the studio.
"""

__version__ = "0.1.0"
