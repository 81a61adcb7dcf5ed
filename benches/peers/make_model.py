"""Writes what all sides are given: a model with seeded random weights, prompt pairs, and numbers to probe.

    python make_model.py SHAPE DIR          # torch, transformers; SHAPE is gpt2 or llama

DIR gets config.json, model.safetensors, tokenizer.json (a word for each token), and

  differ.jsonl   8 pairs of 15 tokens that differ at position 10 only
  apart.jsonl    8 pairs that differ at every position: no cell of a sweep is free
  probe.safetensors   x [13, 2000, 768], y [2000] (gpt2 only): numbers with the spectrum of activations, and a label they carry

Weights are scaled so that logits spread by several nats and attention is far from uniform; answers are the tokens whose logit
the change of the prompt raises and lowers most, so that there is a gap to take shares of.
"""
import json
import math
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

PROMPTS, LENGTH, DIFFERS_AT = 8, 15, 10

GPT2 = dict(model_type="gpt2", architectures=["GPT2LMHeadModel"], n_layer=12, n_embd=768, n_head=12, n_positions=1024,
            n_ctx=1024, vocab_size=50257, activation_function="gelu_new", layer_norm_epsilon=1e-5, bos_token_id=0, eos_token_id=0)
LLAMA = dict(model_type="llama", architectures=["LlamaForCausalLM"], num_hidden_layers=16, hidden_size=1024, num_attention_heads=16,
             num_key_value_heads=4, intermediate_size=2816, max_position_embeddings=2048, vocab_size=32000, hidden_act="silu",
             rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=False, bos_token_id=0, eos_token_id=0)


# Deviations of matrices, times 1/√(width of the input); embeddings have theirs as it is. What a layer writes to the stream is small
# beside the stream, so that no layer drowns the others.
GAINS = dict(c_attn=1.4, c_fc=1.0, c_proj=0.08, q_proj=1.4, k_proj=1.4, v_proj=1.4, o_proj=1.4, gate_proj=1.0, up_proj=1.0,
             down_proj=1.4, lm_head=3.0)
EMBEDDINGS = dict(wte=0.1, wpe=0.05, embed_tokens=3.0)


def scale(name, shape):
    """Mean and deviation of a tensor's numbers; transformers' GPT-2 holds matrices as [input, output], all else the other way."""
    what = name.split(".")[-2]
    if what in EMBEDDINGS:
        return 0.0, EMBEDDINGS[what]
    if len(shape) == 2:
        return 0.0, GAINS[what] / math.sqrt(shape[0] if what.startswith("c_") else shape[1])
    return (0.0, 0.02) if name.endswith("bias") else (1.0, 0.1)


def weights(model):
    draw = torch.Generator().manual_seed(6)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        mean, deviation = scale(name, tensor.shape)
        tensor.copy_(mean + deviation * torch.randn(tensor.shape, generator=draw))


def pairs(model, path, positions):
    """JSON lines of pairs, as token ids."""
    draw = torch.Generator().manual_seed(len(positions))
    vocabulary = model.config.vocab_size
    clean = torch.randint(1, vocabulary, (PROMPTS, LENGTH), generator=draw)
    corrupt = clean.clone()
    other = torch.randint(1, vocabulary - 1, (PROMPTS, len(positions)), generator=draw)
    corrupt[:, positions] = (clean[:, positions] + other) % vocabulary
    gain = model(clean).logits[:, -1] - model(corrupt).logits[:, -1]
    lines = [json.dumps(dict(clean=c.tolist(), corrupt=k.tolist(), answers=[a.item()], wrong=[w.item()]))
             for c, k, a, w in zip(clean, corrupt, gain.argmax(-1), gain.argmin(-1))]
    path.write_text("\n".join(lines) + "\n")


def tokenizer(size):
    words = {f"w{i}": i for i in range(size)}
    return dict(version="1.0", truncation=None, padding=None, added_tokens=[], normalizer=None, post_processor=None, decoder=None,
                pre_tokenizer=dict(type="WhitespaceSplit"), model=dict(type="WordLevel", vocab=words, unk_token="w0"))


def probe(path):
    """Features whose deviations fall as 1/k, mixed at random; the label is a noisy linear function of them."""
    draw = torch.Generator().manual_seed(13)
    normal = lambda *shape: torch.randn(*shape, generator=draw)
    spectrum = 1 / torch.arange(1, 769)
    mix = torch.linalg.qr(normal(768, 768))[0]
    hidden = normal(13, 2000, 768)
    seen = torch.einsum("snk,k,kd->snd", hidden, 20 * spectrum, mix) + 0.05 * normal(13, 2000, 768)
    label = (hidden[:, :, :24].mean(0).sum(-1) * 3 + normal(2000) > 0).long()
    save_file({"x": seen.contiguous(), "y": label}, path)


def main(shape, folder):
    folder.mkdir(parents=True, exist_ok=True)
    config = GPT2 if shape == "gpt2" else LLAMA
    with torch.no_grad():
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), attn_implementation="eager").eval()
        weights(model)
        pairs(model, folder / "differ.jsonl", [DIFFERS_AT])
        pairs(model, folder / "apart.jsonl", list(range(LENGTH)))
        tied = model.config.tie_word_embeddings
        kept = {k: v.contiguous() for k, v in model.state_dict().items() if not (tied and k == "lm_head.weight")}
        save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer(config["vocab_size"])))
    if shape == "gpt2":
        probe(folder / "probe.safetensors")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
