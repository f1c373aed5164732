"""DeepSpeed's ZeRO behind the face of an engine: what every replica would hold is split among the processes.

Source: ZeRO, arXiv:1910.02054. Stage 1 splits the optimizer's state, stage 2 the gradients too, stage 3 the weights
too. DeepSpeed averages over processes; the loop's losses are parts of one sum, so each is multiplied by their number.
"""

import logging
import math
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from minimind.batches import Batch
from minimind.config import Runtime
from minimind.distributed import World
from minimind.engines.engine import Objective
from minimind.model import Attention, Decoder, FeedForward

MOMENTS = ("exp_avg", "exp_avg_sq")  # what AdamW keeps of a parameter, beside the number of steps


class Task(nn.Module):
    """An objective on a model as one module, since DeepSpeed drives modules."""

    def __init__(self, model: Decoder, objective: Objective):
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Summed loss and metrics."""
        return self.objective(self.model, batch)


class Zero:
    """Every process holds its share of the optimizer's state, from stage 2 on of the gradients, in stage 3 of all.

    `train.check` has refused what it can't do.
    """

    def __init__(
        self,
        model: Decoder,
        objective: Objective,
        optimizers: Sequence[torch.optim.Optimizer],
        runtime: Runtime,
        world: World,
    ):
        self.model, self.world, self.stage = model, world, runtime.zero_stage
        (adamw,) = optimizers
        # DeepSpeed replaces the groups' parameters by shares of its own.
        self.form = adamw.state_dict()
        self.parameters = [parameter for group in adamw.param_groups for parameter in group["params"]]
        self.peaks = [group["lr"] for group in adamw.param_groups]
        self.engine = _initialize(Task(model, objective), adamw, runtime)
        self.shares: list[Tensor] = (
            self.engine.optimizer.fp32_partitioned_groups_flat
            if self.stage == 3
            else self.engine.optimizer.single_partition_of_fp32_groups
        )
        # AdamW makes its state in the first step; a state that is loaded before needs it to be there.
        for share in self.shares:
            self.engine.optimizer.optimizer.state[share] = {
                "step": torch.zeros((), device=share.device),
                **{moment: torch.zeros_like(share.data) for moment in MOMENTS},
            }
        if self.stage < 3:
            self.engine.optimizer._lazy_init_hp_params_optimizer_state()

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """As `Engine.forward` says."""
        return self.engine(batch)

    def backward(self, loss: Tensor) -> None:
        """As `Engine.backward` says."""
        self.engine.backward(loss * self.world.size)

    def step(self, share: float, grad_clip: float, limit: float | None) -> Tensor:
        """As `Engine.step` says, but without a limit: DeepSpeed measures the norm and updates in one."""
        assert limit is None, "train refuses skip_spikes"
        optimizer = self.engine.optimizer
        optimizer.clip_grad = grad_clip
        for group, peak in zip(optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * share
        self.engine.step()
        # A step whose gradient overflows is left out, and in stage 3 the norm remains that of the step before.
        norm = math.inf if optimizer.overflow else self.engine.get_global_grad_norm()
        return torch.as_tensor(norm, dtype=torch.float32, device=self.model.cos.device)

    def state(self) -> dict[str, Any]:
        """As `Engine.state` says."""
        from deepspeed.utils import safe_get_full_optimizer_state

        weights = self._values()
        step = self.engine.optimizer.optimizer.state[self.shares[0]]["step"].cpu()
        moments: dict[int, dict[str, Tensor]] = {}
        for number, parameter in enumerate(self.parameters):
            whole = {moment: safe_get_full_optimizer_state(parameter, moment) for moment in MOMENTS}
            if self.world.main:  # the others give their shares only
                moments[number] = {"step": step.clone(), **{name: value.cpu() for name, value in whole.items()}}
        return {
            "model": {name: value.cpu() for name, value in weights.items()} if self.world.main else {},
            "optimizers": [{"state": moments, "param_groups": self.form["param_groups"]}],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """As `Engine.load` says."""
        import deepspeed
        from deepspeed.utils import (
            safe_get_local_fp32_param,
            safe_set_full_fp32_param,
            safe_set_full_optimizer_state,
            safe_set_local_fp32_param,
            safe_set_local_optimizer_state,
        )

        (optimizer,) = state["optimizers"]
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        buffers = self._buffers()
        assert {*names.values(), *buffers} == set(state["model"]), "the key of a state covers the model's config"
        for name, buffer in buffers.items():
            buffer.copy_(state["model"][name])
        with torch.no_grad(), deepspeed.zero.GatheredParameters(self.parameters, modifier_rank=0):
            if self.stage < 3 or self.world.main:
                for parameter in self.parameters:
                    parameter.copy_(state["model"][names[id(parameter)]])
        for number, parameter in enumerate(self.parameters):
            weights, moments = state["model"][names[id(parameter)]], optimizer["state"][number]
            if self.stage < 3:
                safe_set_full_fp32_param(parameter, weights)
                for moment in MOMENTS:
                    safe_set_full_optimizer_state(parameter, moments[moment], moment)
                continue
            size = safe_get_local_fp32_param(parameter).numel()
            safe_set_local_fp32_param(parameter, self._share(weights, size))
            for moment in MOMENTS:
                safe_set_local_optimizer_state(parameter, self._share(moments[moment], size), moment)
        (step,) = {float(moments["step"]) for moments in optimizer["state"].values()}
        for share in self.shares:
            self.engine.optimizer.optimizer.state[share]["step"].fill_(step)

    def whole(self) -> Decoder:
        """As `Engine.whole` says: in stage 3 a copy, which takes the memory of all weights while it lives."""
        if self.stage < 3:
            return self.model
        copy = Decoder(self.model.config, self.model.dtype).to(self.model.cos.device)
        copy.load_state_dict(self._values())
        return copy

    def finish(self) -> None:
        """As `Engine.finish` says."""
        weights = self._values()
        self.engine.destroy()
        for name, parameter in self.model.named_parameters():
            parameter.data = weights[name].to(parameter.device)

    def _values(self) -> dict[str, Tensor]:
        """What a state dict of the model holds: all weights, whole, fp32, in every process, and the buffers."""
        from deepspeed.utils import safe_get_full_fp32_param

        weights = {name: safe_get_full_fp32_param(parameter) for name, parameter in self.model.named_parameters()}
        return weights | self._buffers()

    def _buffers(self) -> dict[str, Tensor]:
        """The buffers that belong to a checkpoint (biases of the choice of experts). DeepSpeed leaves them alone."""
        kept = self.model.state_dict(keep_vars=True).keys()
        return {name: buffer for name, buffer in self.model.named_buffers() if name in kept}

    def _share(self, value: Tensor, size: int) -> Tensor:
        """This process's `size` numbers of a tensor that stage 3 splits, with zeros beyond its end."""
        start = self.world.rank * size
        own = value.flatten()[start : start + size]
        return nn.functional.pad(own, (0, size - own.numel()))


def _declare_reads(task: Task) -> None:
    """Tell stage 3 which modules read weights that are not their own, so that these are gathered in time."""
    import deepspeed

    register = deepspeed.zero.register_external_parameter
    for module in task.modules():
        if isinstance(module, Attention | FeedForward):
            for parameter in module.parameters():
                register(module, parameter)
    register(task.model, task.model.model.embed_tokens.weight)
    register(task, task.model.output_weight)


def _initialize(task: Task, adamw: torch.optim.Optimizer, runtime: Runtime) -> Any:
    """DeepSpeed's engine, without a compiler: AdamW stays PyTorch's."""
    os.environ["DS_ACCELERATOR"] = task.model.cos.device.type
    if not dist.is_initialized():  # a single process; DeepSpeed wants a group and a rank all the same
        os.environ.setdefault("LOCAL_RANK", "0")
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    import deepspeed
    from deepspeed.utils import logger

    logger.setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", r"`torch\.distributed\.", FutureWarning)  # of names that DeepSpeed still uses
    # It would be compiled, and is an alternative to gloo that isn't needed.
    sys.modules["deepspeed.comm.torch"].build_shm_op = lambda: None  # type: ignore[attr-defined]
    if runtime.zero_stage == 3:
        _declare_reads(task)
    widest = max(parameter.numel() for parameter in task.parameters() if parameter.ndim == 1)
    optimization = {
        "stage": runtime.zero_stage,
        "stage3_param_persistence_threshold": widest,  # norms stay whole everywhere, matrices are split
        **({"offload_optimizer": {"device": "cpu"}} if runtime.offload else {}),
    }
    engine, *_ = deepspeed.initialize(
        model=task,
        optimizer=adamw,
        config={
            "train_micro_batch_size_per_gpu": 1,  # counts samples only; the loop knows better
            "managed_gradient_accumulation": False,  # the step comes when the loop says so
            "zero_optimization": optimization,
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "steps_per_print": sys.maxsize,
        },
    )
    return engine
