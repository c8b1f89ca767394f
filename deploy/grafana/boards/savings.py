"""What budgets save: by the card, by the holdout, in tokens, GPU time and money."""

from __future__ import annotations

from boards.parts import ALL, JOB, Board, Panel, Query, Row, net, total

# What a generated token costs: time with something to do, times GPUs, over all tokens made in it.
GENERATED = (
    f"({total('reasoning_tokens', '', 'increase', '$__range', JOB)}"
    f" + {total('answer_tokens', '', 'increase', '$__range', JOB)})"
)
BUSY_SECONDS = f"sum(sum_over_time(job:extracot_busy:bool{{{JOB}}}[$__range:30s])) * 30"
IN_ALL = net("", "increase", "$__range", "total_tokens")
GPU_SECONDS = f"{IN_ALL} * $gpus * {BUSY_SECONDS} / ({GENERATED} > 0)"
CLAIMED = (
    f"{net('model', 'increase', '1d')}"
    f" / (sum by (model) (increase(extracot_realised_ratio_count{{{ALL}}}[1d])) > 0)"
)
MEASURED = f"sum by (model) (job_model:extracot_holdout_saving_tokens:mean1d{{{ALL}}})"
HALF = f"sum by (model) (job_model:extracot_holdout_saving_tokens:half1d{{{ALL}}})"

SAVINGS = Board(
    uid="savings",
    title="Extra-CoT: Savings",
    description="What budgets save: by the card, by the holdout, in tokens, GPU time and money.",
    span="24h",
    inputs=(
        ("gpus", "GPUs", "1"),
        ("gpu_hour", "Price of a GPU hour", "2.50"),
        ("million_tokens", "Price of a million tokens", "0.60"),
    ),
    panels=(
        Panel(
            "Reasoning tokens saved",
            "Saved minus overspent, against the baseline of card or holdout, in the time shown.",
            (Query(net("", "increase", "$__range")),),
            kind="stat",
            width=6,
            decimals=0,
        ),
        Panel(
            "Tokens saved in all",
            "Reasoning and answer tokens together. Below the first where shorter reasoning makes "
            "answers longer.",
            (Query(IN_ALL),),
            kind="stat",
            width=6,
            decimals=0,
        ),
        Panel(
            "Share of the baseline saved",
            "The same, divided by what those replies were expected to take natively.",
            (
                Query(
                    f"{net('', 'increase', '$__range')}"
                    f" / ({total('baseline_tokens', '', 'increase', '$__range')} > 0)"
                ),
            ),
            kind="stat",
            unit="percentunit",
            width=6,
        ),
        Panel(
            "GPU time saved (estimate)",
            "Tokens saved in all times the cost of a token in this time: busy seconds "
            "times `GPUs`, over tokens generated. An average: too high where batches had room.",
            (Query(GPU_SECONDS),),
            kind="stat",
            unit="s",
            width=6,
        ),
        Panel(
            "Money saved, by GPU time (estimate)",
            "The GPU time at `Price of a GPU hour`; only real where fewer GPUs are then paid for.",
            (Query(f"{GPU_SECONDS} / 3600 * $gpu_hour"),),
            kind="stat",
            width=8,
            decimals=2,
        ),
        Panel(
            "Money saved, by tokens",
            "Tokens saved in all at `Price of a million tokens`.",
            (Query(f"{IN_ALL} / 1e6 * $million_tokens"),),
            kind="stat",
            width=8,
            decimals=2,
        ),
        Panel(
            "Saved a reply, measured",
            "Mean of the held-out replies minus mean of the budgeted ones, of the last day. Empty "
            "without --holdout-fraction.",
            (Query(MEASURED, "{{model}}"),),
            kind="stat",
            width=8,
            decimals=1,
        ),
        Row("Check: card and holdout side by side"),
        Panel(
            "Reasoning tokens saved a reply",
            "The card's baseline is of other problems, the holdout's of this traffic. If the "
            "card's line leaves the holdout's interval, rely on the holdout.",
            (
                Query(CLAIMED, "{{model}}: by the baseline"),
                Query(MEASURED, "{{model}}: measured"),
                Query(f"{MEASURED} - {HALF}", "{{model}}: measured, low"),
                Query(f"{MEASURED} + {HALF}", "{{model}}: measured, high"),
            ),
        ),
        Panel(
            "Measured, as each server has it",
            "With Welch's interval: of what the usage store held when the server started and its "
            "own since; with --workers of this run alone.",
            (
                Query(f"extracot_holdout_saving_tokens{{{ALL}}}", "{{model}} {{instance}}"),
                Query(f"extracot_holdout_saving_low_tokens{{{ALL}}}", "{{model}} {{instance}} low"),
                Query(
                    f"extracot_holdout_saving_high_tokens{{{ALL}}}", "{{model}} {{instance}} high"
                ),
            ),
        ),
        Panel(
            "Replies in the comparison",
            "Completed replies of each arm in the last day: thirty or more make an interval.",
            (
                Query(
                    "sum by (model, arm) "
                    f"(job_model_arm:extracot_holdout_replies:increase1d{{{ALL}}})",
                    "{{model}} {{arm}}",
                ),
            ),
            width=24,
        ),
        Row("Where it comes from"),
        Panel(
            "Saved tokens a second, by model",
            "Negative where replies run longer than their baseline.",
            (
                Query(net("model", "rate", "$__rate_interval"), "{{model}}: reasoning"),
                Query(net("model", "rate", "$__rate_interval", "total_tokens"), "{{model}}: all"),
            ),
        ),
        Panel(
            "Saved tokens a second, by budget",
            "The applied level, not the number a client sent.",
            (Query(net("budget", "rate", "$__rate_interval"), "{{budget}}"),),
        ),
        Panel(
            "Share of the baseline saved, by model",
            "Over the last hour.",
            (Query(f"job_model:extracot_tokens_saved:share1h{{{ALL}}}", "{{model}}"),),
            unit="percentunit",
        ),
        Panel(
            "Saved in the time shown, by model and budget",
            "In reasoning tokens.",
            (Query(net("model, budget", "increase", "$__range"), "{{model}} {{budget}}"),),
            kind="bargauge",
        ),
    ),
)
