"""What happens where `zero_grad` is missing: the gradients of all steps add up.

python -m examples.from_scratch.zero_grad
"""

from examples.from_scratch.data import NEIGHBOURS, MiddlePixels
from examples.from_scratch.model import HandLinear, mean_squared_error
from examples.from_scratch.optimizer import GradientDescent

SHOWN = (1, 2, 3, 4, 5, 6, 8, 10, 20, 30)


def losses(steps: int, calls_zero_grad: bool, lr: float = 0.1) -> list[float]:
    """The loss at each step of a linear regression."""
    samples, model = MiddlePixels("train"), HandLinear(len(NEIGHBOURS))
    optimizer, values = GradientDescent(model.parameters(), lr), []
    for _ in range(steps):
        if calls_zero_grad:
            optimizer.zero_grad()  # 1. forget the gradients of the last step: backward() adds to what is there
        loss = mean_squared_error(model(samples.neighbours), samples.pixels)  # 2. forward: how wrong is it?
        loss.backward()  # 3. backward: in which direction does each weight make it worse?
        optimizer.step()  # 4. step: move against that direction
        values.append(loss.item())
    return values


def main() -> None:
    right, wrong = (losses(max(SHOWN), calls_zero_grad) for calls_zero_grad in (True, False))
    print("step  loss with zero_grad  without")
    for step in SHOWN:
        print(f"{step:4}  {right[step - 1]:19.3f}  {wrong[step - 1]:7.3f}")


if __name__ == "__main__":
    main()
