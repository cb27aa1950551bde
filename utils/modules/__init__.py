"""What is done to a model or optimizer from outside. `weights` and `parameter_groups` prepare it as the config says;
`auto_tuning` chooses fused optimizers and the memory format; `precision`, `micro_batches`, `averaging`, `activations`
and `gradients` are the options of the step (`step_option` is their base)."""
