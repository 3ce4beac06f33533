"""Terms that the report explains besides the metrics, whose names and definitions are in `holdfast.measure.metrics`."""

GENERAL_TERMS = [
    ("Score", "Mean reward of greedy answers over a set's test items, in %. The set's verifier gives the rewards."),
    (
        "Not judged",
        "A set without answers, verifier or environment. It has no score: it is scored by the NLL of its "
        "demonstrations, and is left out of all numbers in % and points.",
    ),
    (
        "NLL",
        "Negative log-likelihood of demonstrations, in nats per token. Lower means that the model finds them more "
        "probable. It has no sampling noise.",
    ),
    ("Point", "A difference of one percentage point between two scores."),
    (
        "95% CI",
        "95% confidence interval. Over runs (seeds and task orders) it is Student's t. For the score of a single run "
        "it is over the items of the set. One run alone has no interval over runs.",
    ),
    (
        "Pareto front",
        "The recipes that no other recipe beats on both final score and overall forgetting.",
    ),
    (
        "p and p (Holm)",
        "Two-sided paired t-test over runs. p (Holm) is corrected for comparing all pairs of recipes.",
    ),
    (
        "Matched new-task score",
        "A recipe that learns less usually forgets less. So two recipes are also compared, stage by stage, at the "
        "moment when each first reaches the highest score that both reach.",
    ),
]
"""Terms that the report uses besides the metrics' names."""
