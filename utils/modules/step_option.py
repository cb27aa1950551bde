"""What of `trainer.args` a step must do something for, so that none is ignored without a word."""


class StepOption:
    """A part of a trainer that its `train_step` uses where it is on; a trial before the run looks whether it does.

    `option`: its name in `trainer.args`. `remedy`: what a step does with it.
    """

    option = ""
    remedy = ""
    is_on = False
    is_used = False
    splits_batches = False  # along the first dimension of their tensors
