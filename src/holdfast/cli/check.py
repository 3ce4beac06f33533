"""`holdfast check`: whether a configuration, its data and its model fit together, and what a run would cost."""

from typing import Annotated

import typer

from holdfast.cli.options import AnyConfigFile, JsonFile, Overrides
from holdfast.cli.overrides import parse_overrides
from holdfast.cli.say import say
from holdfast.model.quiet import silence_progress_bars


def check(
    config: AnyConfigFile,
    items: Annotated[
        int, typer.Option("--items", min=1, help="Prompts per task to sample on, and to test the teacher on.")
    ] = 50,
    json_file: JsonFile = None,
    settings: Overrides = None,
) -> None:
    """Check data, model, teacher and rewards, show an example as the model sees it, and estimate what a run costs."""
    from holdfast import api
    from holdfast.cli.check_text import check_as_text, comparison_as_text
    from holdfast.store.files import write_json

    overrides = parse_overrides(settings)
    configs, runs = api.run_configs(config, overrides), api.runs_of_each_recipe(config, overrides)
    silence_progress_bars()
    results = {}
    for label, resolved in configs.items():
        results[label] = api.check(resolved, items=items)
        say(check_as_text(label, results[label]))
    comparison = {
        "runs": runs * len(results),
        "disk": runs * sum(each["disk"]["total"] for each in results.values()),
        "time": runs * sum(each["time"]["total"] for each in results.values()),
        "free_disk": min(each["machine"]["free_disk"] for each in results.values()),
    }
    if comparison["runs"] > 1:
        say(comparison_as_text(comparison))
    if json_file is not None:
        write_json(json_file, {"recipes": results, "all": comparison})
