"""TransformerLens as a worker: one line in, one line out.

    python peer.py DIR            # in an environment with transformer-lens 4.x or 2.x; PEER_THREADS says how many threads
    python peer.py DIR PAIRS      # one cold run: loads, logit lens, direct attribution, head sweep; prints their numbers

Reads `{"task": NAME, "pairs": FILE, …}` lines and answers `{"seconds", "values", "peak"}`: how long the task took once, its numbers
in the order that run.py compares them in, and this process's peak memory so far in KiB. What is written here is what users of the
library write: its own `patching` functions for sweeps, one backward pass with hooks for attribution, the hooks of EAP's authors
for edges. No weight is processed on either side.
"""
import json
import os
import sys
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
BEGIN = time.perf_counter()

import torch
import transformer_lens
from transformer_lens import patching

THREADS = int(os.environ.get("PEER_THREADS", "2"))
torch.set_num_threads(THREADS)
CLASSIC = int(version("transformer-lens").split(".")[0]) < 3


def load(folder):
    """The library's usual way from a local checkpoint."""
    config = json.loads((folder / "config.json").read_text())
    if not CLASSIC:
        from transformer_lens.model_bridge import TransformerBridge

        return TransformerBridge.boot_transformers(str(folder), device="cpu", dtype=torch.float32, tokenizer=words(folder))
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights, convert_llama_weights
    from transformers import AutoModelForCausalLM

    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    plain = dict(d_vocab=config["vocab_size"], device="cpu", default_prepend_bos=False, n_ctx=1024)
    if config["model_type"] == "gpt2":
        cfg = HookedTransformerConfig(
            **plain, n_layers=config["n_layer"], d_model=config["n_embd"], n_heads=config["n_head"],
            d_head=config["n_embd"] // config["n_head"], d_mlp=4 * config["n_embd"], eps=config["layer_norm_epsilon"],
            act_fn="gelu_new", normalization_type="LN")
        weights = convert_gpt2_weights(hf, cfg)
    else:
        width = config["hidden_size"] // config["num_attention_heads"]
        cfg = HookedTransformerConfig(
            **plain, n_layers=config["num_hidden_layers"], d_model=config["hidden_size"], n_heads=config["num_attention_heads"],
            d_head=width, n_key_value_heads=config["num_key_value_heads"], d_mlp=config["intermediate_size"],
            eps=config["rms_norm_eps"], act_fn="silu", normalization_type="RMS", gated_mlp=True, final_rms=True,
            positional_embedding_type="rotary", rotary_dim=width, rotary_adjacent_pairs=False, rotary_base=10000)
        weights = convert_llama_weights(hf, cfg)
    model = HookedTransformer(cfg)
    model.load_state_dict(weights, strict=False)
    return model.eval()


def words(folder):
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), unk_token="w0", eos_token="w0", pad_token="w0")


class Pairs:
    def __init__(self, path):
        lines = [json.loads(line) for line in Path(path).read_text().splitlines()]
        self.clean, self.corrupt = (torch.tensor([line[side] for line in lines]) for side in ("clean", "corrupt"))
        self.answer, self.wrong = (torch.tensor([line[side][0] for line in lines]) for side in ("answers", "wrong"))

    def each(self, logits):
        """Logit difference of every prompt where the answer is due."""
        rows = torch.arange(len(logits))
        return logits[rows, -1, self.answer] - logits[rows, -1, self.wrong]

    def score(self, logits):
        return self.each(logits).mean()


# --- passes ---------------------------------------------------------------------------------------------------------

def forward(model, pairs, _):
    logits = model(pairs.clean)
    return logits[:, ::7, ::1009]


def classic_sites(model):
    """Every place of the classic model, which both libraries and ours have; no hook_result."""
    config = model.cfg
    block = ["hook_resid_pre", "ln1.hook_scale", "ln1.hook_normalized", "attn.hook_q", "attn.hook_k", "attn.hook_v",
             "attn.hook_attn_scores", "attn.hook_pattern", "attn.hook_z", "hook_attn_out", "hook_resid_mid", "ln2.hook_scale",
             "ln2.hook_normalized", "mlp.hook_pre", "mlp.hook_post", "hook_mlp_out", "hook_resid_post"]
    gated = ["attn.hook_rot_q", "attn.hook_rot_k", "mlp.hook_pre_linear"]
    rotary = getattr(config, "positional_embedding_type", "") == "rotary"
    block += gated if rotary else []
    ends = ["hook_embed", "ln_final.hook_scale", "ln_final.hook_normalized"] + ([] if rotary else ["hook_pos_embed"])
    return ends + [f"blocks.{layer}.{name}" for layer in range(config.n_layers) for name in block]


def record(model, pairs, asked):
    names = None if asked.get("all") else set(classic_sites(model)).__contains__
    logits, cache = model.run_with_cache(pairs.clean, names_filter=names)
    layers = range(model.cfg.n_layers)
    norms = [cache[f"blocks.{layer}.hook_resid_post"][:, -1].norm() for layer in layers]
    norms += [cache[f"blocks.{layer}.mlp.hook_post"][:, -1].norm() for layer in layers]
    return torch.stack(norms)


# --- sweeps ---------------------------------------------------------------------------------------------------------

def shares(model, pairs, sites, sweep):
    """Denoising: the share of the gap that each patch closes."""
    logits, cache = model.run_with_cache(pairs.clean, names_filter=lambda name: name.endswith(sites))
    clean, corrupt = pairs.score(logits), pairs.score(model(pairs.corrupt))
    patched = sweep(model, pairs.corrupt, cache, pairs.score)
    return (patched - corrupt) / (clean - corrupt)


def heads(model, pairs, _):
    return shares(model, pairs, "hook_z", patching.get_act_patch_attn_head_out_all_pos)


def resid(model, pairs, _):
    return shares(model, pairs, "hook_resid_pre", patching.get_act_patch_resid_pre)


def head_positions(model, pairs, asked):
    """Every `stride`-th cell of layer × head × position."""
    import pandas

    config, length = model.cfg, pairs.clean.shape[1]
    cells = [(layer, pos, head) for layer in range(config.n_layers) for head in range(config.n_heads) for pos in range(length)]
    frame = pandas.DataFrame(cells[:: asked["stride"]], columns=["layer", "pos", "head"])

    def sweep(model, corrupt, cache, metric):
        return patching.generic_activation_patch(model, corrupt, cache, metric, patching.layer_pos_head_vector_patch_setter, "z",
                                                 index_df=frame)

    return shares(model, pairs, "hook_z", sweep)


# --- gradients ------------------------------------------------------------------------------------------------------

STREAM = ["hook_resid_pre", "hook_attn_out", "hook_mlp_out", "hook_resid_post"]
HEADS = ["attn.hook_z", "attn.hook_q", "attn.hook_k", "attn.hook_v", "attn.hook_pattern"]
NEURONS = ["mlp.hook_post"]


tracked = ("hook_embed", lambda x, hook: x.requires_grad_() if torch.is_grad_enabled() else x)


def attribution(model, pairs, _):
    """(clean - corrupt) * gradient at the corrupt run, at every site: by position, by head, by neuron."""
    names = [f"blocks.{layer}.{site}" for site in STREAM + HEADS + NEURONS for layer in range(model.cfg.n_layers)]
    with torch.no_grad():
        logits, clean = model.run_with_cache(pairs.clean, names_filter=set(names).__contains__)
        top = pairs.score(logits)
    corrupt, slope = {}, {}

    def keep(x, hook, name):
        corrupt[name] = x.detach()
        x.register_hook(partial(slope.__setitem__, name))
        return x  # 4.x hands over a view, which is in the graph only when it goes back

    with torch.enable_grad():
        score = pairs.score(model.run_with_hooks(pairs.corrupt, fwd_hooks=[tracked, *((n, partial(keep, name=n)) for n in names)]))
        score.backward()
    gap = top - score.detach()
    found = []
    with torch.no_grad():
        for name in names:
            effect = (clean[name] - corrupt[name]) * slope[name]
            if "pattern" in name:
                found.append(effect.sum((0, 2, 3)))
            elif "attn.hook_" in name:
                found.append(effect.sum((0, 1, 3)))
            elif "mlp.hook_" in name:
                found.append(effect.sum((0, 1)))
            else:
                found.append(effect.sum((0, 2)))
    # the neurons are the last, one tensor for each layer; glassbox lists the largest alone, so that they are not compared
    return torch.cat(found[: -model.cfg.n_layers]) / gap


def edges(model, pairs, _):
    """EAP as its authors compute it: the difference of what is written, kept as [batch, pos, writer, d_model]; when the gradient of a
    reader's input arrives, its product with all writers before."""
    config = model.cfg
    layers, writers = config.n_layers, 1 + config.n_layers * (config.n_heads + 1)
    change = torch.zeros(*pairs.clean.shape, writers, config.d_model)
    scores, sign = {}, 1

    def wrote(x, hook, place):
        change[:, :, place] += sign * x.detach()

    def reads(x, hook, name, reach):
        by_head = "bph,bpwh->w" if x.ndim == 3 else "bprh,bpwh->rw"
        x.register_hook(lambda g: scores.__setitem__(name, torch.einsum(by_head, g, change[:, :, :reach])))
        return x

    wrote_by, read_by = [("hook_embed", partial(wrote, place=0))], []
    for layer in range(layers):
        first = 1 + layer * (config.n_heads + 1)
        after = first + config.n_heads
        name = f"blocks.{layer}."
        wrote_by += [(name + "attn.hook_result", partial(wrote, place=slice(first, after))),
                     (name + "hook_mlp_out", partial(wrote, place=after))]
        read_by += [(name + f"hook_{what}_input", first) for what in "qkv"] + [(name + "hook_mlp_in", after)]
    read_by += [(f"blocks.{layers - 1}.hook_resid_post", writers)]
    use(model, True)
    with torch.no_grad():
        sign = -1
        bottom = pairs.score(model.run_with_hooks(pairs.corrupt, fwd_hooks=wrote_by))
    sign = 1
    with torch.enable_grad():
        into = [(name, partial(reads, name=name, reach=reach)) for name, reach in read_by]
        score = pairs.score(model.run_with_hooks(pairs.clean, fwd_hooks=[tracked, *wrote_by, *into]))
        score.backward()
    use(model, False)
    gap = score.detach() - bottom
    if not CLASSIC:
        # the gradient that 4.x hands to hook_mlp_in is that of the whole stream, what passes the MLP by included: not the edge's
        for name in scores:
            if name.endswith("hook_mlp_in"):
                scores[name].fill_(float("nan"))
    return torch.cat([scores[name].flatten() for name, _ in read_by]) / gap


def use(model, on):
    """The splits that edges need, which cost every other pass."""
    model.set_use_attn_result(on)
    model.set_use_split_qkv_input(on)
    model.set_use_hook_mlp_in(on)


# --- readings of one run, for the cold process ----------------------------------------------------------------------

def lens(model, pairs, cache):
    """The stream before, inside and after each block read through the final norm, at every position: the answer's logit difference,
    probability and rank, entropy, and KL from what the model says in the end."""
    layers = range(model.cfg.n_layers)
    stream = [cache["blocks.0.hook_resid_pre"]]
    stream += [cache[f"blocks.{layer}.hook_resid_{at}"] for layer in layers for at in ("mid", "post")]
    final = model.unembed(model.ln_final(stream[-1])).log_softmax(-1)
    rows = torch.arange(len(pairs.clean))
    found = []
    for x in stream:
        logits = model.unembed(model.ln_final(x))
        log_probs = logits.log_softmax(-1)
        answer = logits[rows, :, pairs.answer]
        found.append(torch.stack([
            answer - logits[rows, :, pairs.wrong], log_probs[rows, :, pairs.answer].exp(),
            (logits > answer[..., None]).sum(-1) + 1.0, -(log_probs.exp() * log_probs).sum(-1),
            (final.exp() * (final - log_probs)).sum(-1)]).mean(1))
    return torch.stack(found)[:, 0]  # [reading, pos], logit differences


def direct(model, pairs, cache):
    """What each head writes along the answer's direction, the divisor of the final norm frozen: [layer, head]."""
    direction = (model.W_U[:, pairs.answer] - model.W_U[:, pairs.wrong]).T * model.ln_final.w
    scale = cache["ln_final.hook_scale"][:, -1]
    found = []
    for layer in range(model.cfg.n_layers):
        z = cache[f"blocks.{layer}.attn.hook_z"][:, -1]
        written = torch.einsum("bhd,hdm->bhm", z, model.blocks[layer].attn.W_O)
        if model.cfg.normalization_type == "LN":
            written = written - written.mean(-1, keepdim=True)
        found.append(torch.einsum("bhm,bm->h", written / scale[:, None], direction) / len(z))
    return torch.stack(found)


def cold(model, pairs):
    _, cache = model.run_with_cache(pairs.clean)
    return dict(lens=lens(model, pairs, cache), direct=direct(model, pairs, cache), heads=heads(model, pairs, None))


TASKS = dict(forward=forward, record=record, heads=heads, resid=resid, head_positions=head_positions, attribution=attribution,
             edges=edges)


def peak():
    """VmHWM, in KiB."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def main(folder, pairs=None):
    say = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the library prints is no answer
    model = load(folder)
    if pairs:
        with torch.no_grad():
            print(json.dumps({name: x.flatten().tolist() for name, x in cold(model, Pairs(pairs)).items()}), file=say)
        return
    model.requires_grad_(False)  # no user needs gradients of weights here, and they would cost
    print(json.dumps(dict(ready=time.perf_counter() - BEGIN, peak=peak())), file=say, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        pairs, task = Pairs(asked["pairs"]), TASKS[asked["task"]]
        begin = time.perf_counter()
        with torch.no_grad():
            values = task(model, pairs, asked)
        seconds = time.perf_counter() - begin
        print(json.dumps(dict(seconds=seconds, values=values.flatten().tolist(), peak=peak())), file=say, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
