"""Strategy: how Lightning trains one model in several processes, and how a model that is cut among them is saved.

DDP (Li et al. 2020) gives each rank a copy and averages gradients. FSDP2 (Zhao et al. 2023; torch's `fully_shard`)
gives each rank its part of every matrix, gradient and optimizer state, and gathers a block's weights while it works.
Either way a checkpoint is the one Hugging Face folder of a single process, from which any number of them can go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from lightning.fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from torch import Tensor
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from engine.model.decoder import Decoder
from engine.stages.base import Stage

if TYPE_CHECKING:
    from engine.runs.spread import Spread


def arguments(stage: Stage, how: Spread | None) -> dict[str, Any]:
    """What Lightning's Trainer is told of the processes; the process group is joined already where there are several.

    The environment is named, since under SLURM Lightning would otherwise catch signals to save and requeue by itself.
    """
    if how is None or how.processes == 1:
        return {"devices": 1, "plugins": [LightningEnvironment()]}
    several = {"devices": how.devices, "num_nodes": how.nodes, "plugins": [TorchElasticEnvironment()]}
    if how.strategy == "fsdp":
        stage.shard = shard
        return {**several, "strategy": ModelParallelStrategy(data_parallel_size=how.processes, tensor_parallel_size=1)}
    return {**several, "strategy": DDPStrategy(gradient_as_bucket_view=True, broadcast_buffers=False)}


def shard(stage: Stage) -> None:
    """Cut the model's blocks, and then what is left of it, among the ranks."""
    model, mesh = stage.model, stage.device_mesh["data_parallel"]  # type: ignore[index]
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    # The embedding, which may be the head as well, is needed at both ends.
    fully_shard(model, mesh=mesh, reshard_after_forward=False)
    register_fsdp_forward_method(model, "hidden")


def cut(stage: Stage) -> bool:
    """Whether the model is cut among the ranks. After a look its weights are whole on each, and it is none the less."""
    return isinstance(stage.model, FSDPModule)


def forget(stage: Stage) -> None:
    """Let go of weights that were gathered to look with, where the model is cut: training may go on from others."""
    if isinstance(stage.model, FSDPModule):
        stage.model.reshard()


def scatter(optimizer: Optimizer) -> None:
    """Cut the state that was loaded into an optimizer as its parameters are cut; nothing where these are whole."""
    if isinstance(optimizer, torch.optim.SGD) and isinstance(optimizer.param_groups[0]["params"][0], DTensor):
        for group in optimizer.param_groups:
            group["fused"] = False  # torch 2.13 cannot do that one on parts
    for parameter, state in optimizer.state.items():
        if not isinstance(parameter, DTensor):
            continue
        for name, value in state.items():
            if isinstance(value, Tensor) and not isinstance(value, DTensor) and value.shape == parameter.shape:
                state[name] = distribute_tensor(value.to(parameter.device), parameter.device_mesh,
                                                parameter.placements, src_data_rank=None)


def whole(stage: Stage, optimizer: Optimizer) -> tuple[Decoder, Optimizer]:
    """The model and its optimizer as one process would hold them. Where they are cut, all ranks call this together,
    and the first gets them, in main memory; those of the others mean nothing."""
    if not cut(stage):
        return stage.model, optimizer
    keep = stage.ranks.first
    weights = {name: _gathered(value, keep) for name, value in stage.model.state_dict().items()}
    saved = optimizer.state_dict()
    state = {number: {name: _gathered(value, keep) for name, value in each.items()}
             for number, each in saved["state"].items()}
    if not keep:
        return stage.model, optimizer
    model = Decoder(stage.model.config)
    model.load_state_dict(weights)
    twin = stage.optimizer_of(model)
    twin.load_state_dict({"state": state, "param_groups": twin.state_dict()["param_groups"]})
    return model, twin


@torch.no_grad()
def _gathered(value: Any, keep: bool) -> Any:
    if not isinstance(value, DTensor):
        return value
    full = value.full_tensor()
    return full.cpu() if keep else None
