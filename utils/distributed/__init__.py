"""The processes and devices of a run. `processes` counts, connects and asks them; `launch` reads how torchrun started
them; `devices` chooses what computes; `parallel` has DDP and FSDP, `shards` the tensors that FSDP splits;
`exact_gradients` weights unequal parts of a batch; `signals` stops all of them together; `cpu` and `memory` know the
machine."""
