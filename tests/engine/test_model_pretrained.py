"""Checkpoints: transformers computes the same logits from our folders and we from theirs; damage is named."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from toy_models import CONTEXT, FORMS, VOCABULARY, decoder, stir, tokens

from engine import files
from engine.config import UserError
from engine.model import pretrained
from engine.model.decoder import Decoder
from engine.model.published import CLASSES, config_from

transformers = pytest.importorskip("transformers")

EXACT = 1e-4
SHAPE = {"vocab_size": VOCABULARY, "hidden_size": 48, "intermediate_size": 88, "num_hidden_layers": 3,
         "num_attention_heads": 4, "max_position_embeddings": CONTEXT, "pad_token_id": None, "bos_token_id": None,
         "eos_token_id": None}
GPT2 = {"vocab_size": VOCABULARY, "n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": CONTEXT,
        "bos_token_id": None, "eos_token_id": None}
THEIRS = {
    "llama": transformers.LlamaConfig(**SHAPE, num_key_value_heads=2),
    "llama-tied-biased": transformers.LlamaConfig(
        **SHAPE, tie_word_embeddings=True, attention_bias=True, mlp_bias=True, rms_norm_eps=1e-3,
        rope_parameters={"rope_type": "default", "rope_theta": 77.0}),
    "qwen3": transformers.Qwen3Config(**SHAPE, num_key_value_heads=1, head_dim=20, attention_bias=True),
    "qwen3-tied": transformers.Qwen3Config(**SHAPE, num_key_value_heads=2, head_dim=12, tie_word_embeddings=True),
    "llama-stretched": transformers.LlamaConfig(**SHAPE, num_key_value_heads=2, rope_parameters={
        "rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0}),
    "llama3": transformers.LlamaConfig(**SHAPE, num_key_value_heads=2, tie_word_embeddings=True, rope_parameters={
        "rope_type": "llama3", "rope_theta": 100.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16}),
    "llama-yarn": transformers.LlamaConfig(**SHAPE, num_key_value_heads=2, rope_parameters={
        "rope_type": "yarn", "rope_theta": 100.0, "factor": 4.0, "original_max_position_embeddings": 8}),
    "llama-yarn-deepseek": transformers.LlamaConfig(**SHAPE, rope_parameters={
        "rope_type": "yarn", "rope_theta": 300.0, "factor": 4.0, "original_max_position_embeddings": 8,
        "mscale": 0.7, "mscale_all_dim": 1.0, "beta_fast": 3, "beta_slow": 0.2}),
    "qwen3-yarn": transformers.Qwen3Config(**SHAPE, num_key_value_heads=2, head_dim=12, rope_parameters={
        "rope_type": "yarn", "rope_theta": 50.0, "factor": 2.0, "original_max_position_embeddings": 16,
        "attention_factor": 1.3}),
    "qwen2-yarn": transformers.Qwen2Config(**SHAPE, num_key_value_heads=2, rope_parameters={
        "rope_type": "yarn", "rope_theta": 1e4, "factor": 1.5, "original_max_position_embeddings": 20}),
    "mistral-yarn": transformers.MistralConfig(**SHAPE, num_key_value_heads=2, sliding_window=None, rope_parameters={
        "rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 8,
        "beta_fast": 2, "beta_slow": 1}),
    "llama-dynamic": transformers.LlamaConfig(**SHAPE, rope_parameters={
        "rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 2.0}),
    "smollm2": transformers.LlamaConfig(**SHAPE, num_key_value_heads=2, tie_word_embeddings=True, rms_norm_eps=1e-5,
                                        rope_parameters={"rope_type": "default", "rope_theta": 130_000.0}),
    "qwen2": transformers.Qwen2Config(**SHAPE, num_key_value_heads=2, tie_word_embeddings=True),
    "qwen2-untied": transformers.Qwen2Config(**SHAPE, num_key_value_heads=4),
    "mistral": transformers.MistralConfig(**SHAPE, num_key_value_heads=2, sliding_window=None, head_dim=16),
    "mistral-window": transformers.MistralConfig(**SHAPE, num_key_value_heads=2, sliding_window=24),
    "gpt2": transformers.GPT2Config(**GPT2),
    "gpt2-untied": transformers.GPT2Config(**GPT2, n_inner=100, tie_word_embeddings=False, layer_norm_epsilon=1e-3),
}


def theirs_from(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_transformers_loads_ours(form, tmp_path):
    model, ids = decoder(form), tokens(2, 20)
    pretrained.save(model, tmp_path)
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert type(theirs).__name__ == CLASSES[model.config.family]
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert (theirs.eval()(ids).logits - model(ids)).abs().max() < EXACT
    assert ("lm_head.weight" in load_file(tmp_path / "model.safetensors")) != model.config.tied_embeddings


@pytest.mark.parametrize("form", THEIRS)
@torch.no_grad()
def test_we_load_theirs(form, tmp_path):
    shard = "50KB" if list(THEIRS).index(form) % 2 else "5GB"
    theirs, ids = stir(transformers.AutoModelForCausalLM.from_config(THEIRS[form])), tokens(2, 20)
    theirs.save_pretrained(tmp_path, max_shard_size=shard)
    assert (tmp_path / pretrained.INDEX).exists() == (shard == "50KB")
    model = pretrained.load(tmp_path).eval()
    assert (theirs(ids).logits - model(ids)).abs().max() < EXACT
    again = tmp_path / "again"
    pretrained.save(model, again)
    assert (theirs_from(again)(ids).logits - model(ids)).abs().max() < EXACT, "what we write is what we read"
    assert all(p.dtype == torch.float32 and p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("form", ["llama", "qwen3", "gpt2"])
@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_padded_batches_are_theirs_too(form, side, tmp_path):
    model = decoder(form)
    pretrained.save(model, tmp_path)
    ids, mask = tokens(3, 10), torch.ones(3, 10, dtype=torch.long)
    for row, padding in enumerate((0, 3, 6)):
        mask[row, slice(padding) if side == "left" else slice(10 - padding, None)] = 0
    # Their plain forward counts positions over padding; their generate passes these.
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    wanted = theirs_from(tmp_path)(ids, attention_mask=mask, position_ids=positions).logits
    assert ((model(ids, attention_mask=mask) - wanted).abs() * mask[..., None]).max() < EXACT


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_save_and_load_keep_every_bit(form, tmp_path):
    model = decoder(form)
    pretrained.save(model, tmp_path)
    again = pretrained.load(tmp_path)
    assert again.config == model.config.replace(size=again.config.size)
    assert again.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in again.state_dict().items())


@pytest.mark.parametrize("form", FORMS)
def test_names_and_layouts_are_each_others_inverse(form):
    model = decoder(form)
    state = model.state_dict()
    back = pretrained.from_published(model.config, pretrained.to_published(model.config, state))
    assert list(back) == list(state)
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())


@torch.no_grad()
def test_half_precision_becomes_float32(tmp_path):
    model = decoder("llama")
    pretrained.save(model, tmp_path)
    change_weights(tmp_path, lambda weights: {name: tensor.bfloat16() for name, tensor in weights.items()})
    again = pretrained.load(tmp_path)
    assert again.embedding.weight.dtype == torch.float32
    torch.testing.assert_close(again.embedding.weight, model.embedding.weight, atol=0.003, rtol=0)


@torch.no_grad()
def test_the_first_gpt2s_layout_loads(tmp_path):
    """Its names have no prefix, and its masks are stored among the weights."""
    model, ids = decoder("gpt2"), tokens(1, 9)
    pretrained.save(model, tmp_path)
    change_weights(tmp_path, lambda weights: {
        **{name.removeprefix("transformer."): tensor for name, tensor in weights.items()},
        "h.0.attn.bias": torch.ones(1, 1, CONTEXT, CONTEXT).tril()})
    assert torch.equal(pretrained.load(tmp_path)(ids), model(ids))


def test_the_tokenizer_comes_along(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    made.train_from_iterator(["a small house by the river"] * 4, tokenizers.trainers.BpeTrainer(
        vocab_size=280, special_tokens=["<|endoftext|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()))
    made.save(str(tmp_path / "mine.json"))
    folder = tmp_path / "checkpoint"
    pretrained.save(decoder("gpt2", vocab_size=280), folder, tmp_path / "mine.json")
    assert (folder / "tokenizer.json").read_bytes() == (tmp_path / "mine.json").read_bytes()
    read = transformers.AutoTokenizer.from_pretrained(folder)
    assert read("the river")["input_ids"] == made.encode("the river").ids
    assert read.decode(read("the river")["input_ids"]) == "the river"
    assert read.eos_token == "<|endoftext|>"
    assert read.model_max_length == CONTEXT
    for name in ("config.json", "generation_config.json"):
        assert json.loads((folder / name).read_text())["eos_token_id"] == made.token_to_id("<|endoftext|>")
    # What stands beside a tokenizer, such as a chat template, is kept by the next checkpoint.
    files.write_json(folder / "tokenizer_config.json", {"chat_template": "{{ messages }}"})
    pretrained.save(decoder("gpt2", vocab_size=280), tmp_path / "next", folder / "tokenizer.json")
    assert files.read_json(tmp_path / "next" / "tokenizer_config.json")["chat_template"] == "{{ messages }}"


# What goes wrong ------------------------------------------------------------------------------------

@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "checkpoint"
    pretrained.save(decoder("llama"), folder)
    return folder


def change_weights(folder, change):
    path = folder / pretrained.WEIGHTS
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def change_config(folder, **changes):
    path = folder / "config.json"
    files.write_json(path, {**files.read_json(path), **changes})


def drop_config(folder, name):
    path = folder / "config.json"
    files.write_json(path, {k: v for k, v in files.read_json(path).items() if k != name})


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


GATE = "model.layers.1.mlp.gate_proj.weight"


@pytest.mark.parametrize(("harm", "sentence"), [
    (shutil.rmtree, "checkpoint is not a folder"),
    (lambda f: (f / "config.json").unlink(), r"config\.json is missing"),
    (lambda f: (f / "config.json").write_text('{"model_type": "lla'), r"config\.json is damaged"),
    (lambda f: (f / "config.json").write_text("[]"), r"config\.json holds no settings"),
    (lambda f: (f / "model.safetensors").unlink(), r"model\.safetensors is missing"),
    (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "holds pickled weights"),
    (lambda f: cut(f / "model.safetensors", 5), r"model\.safetensors is cut or damaged"),
    (lambda f: cut(f / "model.safetensors", 400), r"model\.safetensors is cut or damaged"),
    (lambda f: cut(f / "model.safetensors", -1), r"model\.safetensors is cut or damaged"),
    (lambda f: (f / "model.safetensors").write_bytes(b"\x80\x04pickle" * 99), r"model\.safetensors is cut or damaged"),
    (lambda f: change_weights(f, lambda w: {k: v for k, v in w.items() if k != GATE}), f"lacks the tensor {GATE},"),
    (lambda f: change_weights(f, lambda w: {**w, GATE: w[GATE][:-1].contiguous()}),
     rf"{GATE} is \(127, 48\), but .* \(128, 48\)"),
    (lambda f: change_weights(f, lambda w: {**w, "model.extra.weight": w[GATE].clone()}),
     r"holds the tensor model\.extra"),
    (lambda f: change_weights(f, lambda w: {**w, GATE: w[GATE].to(torch.int8)}), "is quantized"),
    (lambda f: change_config(f, num_hidden_layers=3), r"lacks the tensor model\.layers\.2\.\S+ and 8 more"),
    (lambda f: change_config(f, num_hidden_layers=1), r"holds the tensor model\.layers\.1"),
    (lambda f: change_config(f, tie_word_embeddings=False), r"lacks the tensor lm_head\.weight"),
    (lambda f: change_config(f, model_type="mamba", state_size=16),
     "type 'mamba', which has state-space blocks; known are llama, qwen3, gpt2, qwen2, mistral"),
    (lambda f: change_config(f, model_type="mixtral", num_local_experts=8), "which has a mixture of experts"),
    (lambda f: change_config(f, model_type=["llama"]), "describes a model of type"),
    (lambda f: change_config(f, hidden_act="relu"), "sets activation to 'relu'"),
    (lambda f: change_config(f, rope_parameters={"rope_type": "longrope", "rope_theta": 5e5}),
     "rope_type to 'longrope'"),
    (lambda f: change_config(f, rope_parameters={"rope_type": "yarn", "factor": 2.0, "truncate": False}),
     "truncate to False"),
    (lambda f: change_config(f, rope_parameters={"rope_type": "llama3", "rope_theta": 5e5}), "does not state factor"),
    (lambda f: change_config(f, quantization_config={"bits": 4}), "quantization_config"),
    (lambda f: change_config(f, num_attention_heads="four"), "num_attention_heads as 'four'"),
    (lambda f: change_config(f, num_key_value_heads=3), "num_kv_heads: is 3, which does not divide"),
    (lambda f: change_config(f, rms_norm_eps=-1), "norm_eps: is -1"),
    (lambda f: drop_config(f, "max_position_embeddings"), "does not state max_position_embeddings"),
])
def test_a_damaged_checkpoint_is_one_sentence_that_names_what_is_wrong(checkpoint, harm, sentence):
    harm(checkpoint)
    with pytest.raises(UserError, match=sentence) as caught:
        pretrained.load(checkpoint)
    assert caught.value.sentence.count("\n") == 0
    assert "checkpoint" in caught.value.sentence


@pytest.mark.parametrize(("harm", "sentence"), [
    (lambda f, shard: (f / shard).unlink(), "is missing"),
    (lambda f, shard: cut(f / shard, 300), "is cut or damaged"),
    (lambda f, shard: files.write_json(f / pretrained.INDEX, {"weight_map": {GATE: "../elsewhere.safetensors"}}),
     "does not map tensors to files of its folder"),
    (lambda f, shard: files.write_json(f / pretrained.INDEX, {}), "does not map tensors"),
])
def test_damaged_shards_are_named(tmp_path, harm, sentence):
    transformers.LlamaForCausalLM(THEIRS["llama"]).save_pretrained(tmp_path, max_shard_size="50KB")
    shard = sorted(tmp_path.glob("*.safetensors"))[1].name
    harm(tmp_path, shard)
    with pytest.raises(UserError, match=sentence):
        pretrained.load(tmp_path)


def test_a_save_that_breaks_off_leaves_no_checkpoint_that_looks_good(checkpoint, monkeypatch):
    """It broke while the weights were written over older ones: nothing but a whole folder loads."""
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    (checkpoint / "notes.txt").write_text("mine")
    monkeypatch.setattr(pretrained, "save_file", full)
    with pytest.raises(UserError, match="the disk is full"):
        pretrained.save(decoder("llama", seed=1), checkpoint)
    with pytest.raises(UserError, match=r"config\.json is missing"):
        pretrained.load(checkpoint)
    assert not list(checkpoint.glob(".*"))
    monkeypatch.undo()
    pretrained.save(decoder("llama", seed=1), checkpoint)
    assert torch.equal(pretrained.load(checkpoint).embedding.weight, decoder("llama", seed=1).embedding.weight)
    assert (checkpoint / "notes.txt").read_text() == "mine"


def test_what_their_config_leaves_out_means_what_it_means_to_them(tmp_path):
    """Published files of every age: only what has no default is stated."""
    least = {"model_type": "llama", "vocab_size": 9000, "hidden_size": 64, "intermediate_size": 96,
             "num_hidden_layers": 5, "num_attention_heads": 8, "max_position_embeddings": 500, "rope_theta": 3e4}
    files.write_json(tmp_path / "config.json", least)
    ours, theirs = config_from(tmp_path), transformers.AutoConfig.from_pretrained(tmp_path)
    assert (ours.num_layers, ours.hidden_size, ours.vocab_size, ours.context_length) == (5, 64, 9000, 500)
    assert ours.num_kv_heads == theirs.num_key_value_heads == 8
    assert ours.head_size == theirs.head_dim == 8
    assert ours.norm_eps == theirs.rms_norm_eps
    assert ours.tied_embeddings == theirs.tie_word_embeddings
    assert ours.rope_theta == theirs.rope_parameters["rope_theta"] == 3e4
    files.write_json(tmp_path / "config.json", {"model_type": "gpt2", "n_embd": 64, "n_layer": 5, "n_head": 8,
                                                "n_positions": 500, "vocab_size": 9000})
    ours, theirs = config_from(tmp_path), transformers.AutoConfig.from_pretrained(tmp_path)
    assert ours.intermediate_size == 4 * theirs.n_embd
    assert ours.tied_embeddings == theirs.tie_word_embeddings
    assert ours.dropout == pytest.approx(theirs.resid_pdrop)
    files.write_json(tmp_path / "config.json", {**least, "model_type": "qwen3", "num_attention_heads": 32})
    ours, theirs = config_from(tmp_path), transformers.AutoConfig.from_pretrained(tmp_path)
    assert ours.head_size == theirs.head_dim == 128
    assert ours.num_kv_heads == theirs.num_key_value_heads


def test_yarn_written_into_a_file_by_hand_makes_the_context_longer(tmp_path):
    stated = {"model_type": "qwen2", "vocab_size": 90, "hidden_size": 64, "intermediate_size": 96,
              "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64}
    yarn = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
    files.write_json(tmp_path / "config.json", {**stated, "rope_scaling": yarn})
    ours = config_from(tmp_path)
    assert (ours.context_length, ours.rope_scaling, ours.rope_high_waves) == (256, "yarn", 32)
    files.write_json(tmp_path / "config.json", {**stated, "rope_scaling": {"type": "yarn", "factor": 4.0}})
    assert config_from(tmp_path).context_length == 64


@torch.no_grad()
def test_a_sliding_window_ends_the_context(tmp_path):
    """Up to there, a window sees what full attention sees; what comes after would be another model's logits."""
    transformers.MistralForCausalLM(THEIRS["mistral-window"]).save_pretrained(tmp_path)
    model = pretrained.load(tmp_path)
    assert model.config.context_length == 24
    with pytest.raises(UserError, match="more than the model's context_length of 24"):
        model(tokens(1, 25))


def test_loading_draws_nothing_from_the_global_dice(checkpoint):
    before = torch.get_rng_state()
    assert isinstance(pretrained.load(checkpoint), Decoder)
    assert torch.equal(torch.get_rng_state(), before)
