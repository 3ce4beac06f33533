"""The callback in a TRL run: measure forgetting and drift in a trainer that is not holdfast's.

    pip install trl
    python examples/callback.py

Everything except `HoldfastCallback` is plain TRL. The callback does not change the training: on a CPU, the weights are
the same bit for bit.
"""

import sys
from importlib.resources import files
from pathlib import Path

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from holdfast.integrations import HoldfastCallback
from holdfast.lab.tasks import lab_task


def main(output: Path) -> None:
    examples = lab_task("calculation").train[:64]
    dataset = Dataset.from_dict(
        {
            "prompt": [list(each.messages) for each in examples],
            "completion": [[{"role": "assistant", "content": each.demonstration}] for each in examples],
        }
    )
    # Retention suites: what the model must not forget. A JSON Lines file with `prompt` and `answer` works too.
    callback = HoldfastCallback(
        ["lab:old-skills", "lab:old-facts"],
        output / "watched",
        items=16,
        max_new_tokens=24,
        probe_steps=4,  # by default, probes take 5% of the training's time
    )
    trainer = SFTTrainer(
        model=str(files("holdfast") / "lab" / "base"),
        args=SFTConfig(
            str(output / "trl"),
            max_steps=8,
            per_device_train_batch_size=4,
            learning_rate=1e-4,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            bf16=False,
        ),
        train_dataset=dataset,
        callbacks=[callback],
    )
    trainer.train()
    print(f"Now run: holdfast report {output / 'watched'}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/examples/callback"))
