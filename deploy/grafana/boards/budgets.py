"""Requested and realised budgets, the choices of `auto`, cut reasoning."""

from __future__ import annotations

from boards.parts import ALL, Board, Panel, Query, Row, net, total

BUDGETS = Board(
    uid="budgets",
    title="Extra-CoT: Budgets",
    description="Requested and realised budgets, the choices of `auto`, cut reasoning.",
    panels=(
        Row("Requested against realised"),
        Panel(
            "Expected by the card",
            "Reasoning over the native baseline at each level, converted from the card's ratios.",
            (
                Query(
                    f"max by (model, budget) (extracot_card_expected_ratio{{{ALL}}})",
                    "{{model}} {{budget}}",
                ),
            ),
            kind="bargauge",
            unit="percentunit",
            width=8,
        ),
        Panel(
            "Realised in the time shown",
            "The same of completed replies, a ratio of sums. Level 0.4 asks for 0.4.",
            (
                Query(
                    f"1 - {net('model, budget', 'increase', '$__range')}"
                    f" / ({total('baseline_tokens', 'model, budget', 'increase', '$__range')} > 0)",
                    "{{model}} {{budget}}",
                ),
            ),
            kind="bargauge",
            unit="percentunit",
            width=8,
        ),
        Panel(
            "Accuracy on the card",
            "Share of right answers when the card was measured. Accuracy on your traffic is "
            "not known here.",
            (
                Query(
                    f"max by (model, budget) (extracot_card_accuracy{{{ALL}}})",
                    "{{model}} {{budget}}",
                ),
            ),
            kind="bargauge",
            unit="percentunit",
            width=8,
        ),
        Panel(
            "Realised ratio over time",
            "Over the last hour, by the applied level.",
            (
                Query(
                    f"job_model_budget:extracot_realised_ratio:ratio1h{{{ALL}}}",
                    "{{model}} {{budget}}",
                ),
            ),
            unit="percentunit",
        ),
        Panel(
            "Realised over the card's",
            "1 is as on the card. Beyond 0.75 and 1.25 for an hour, ExtracotRatioAdrift fires.",
            (
                Query(
                    f"job_model_budget:extracot_realised_over_card:ratio6h{{{ALL}}}",
                    "{{model}} {{budget}}",
                ),
            ),
        ),
        Row("What is asked"),
        Panel(
            "Requests by budget",
            "By the applied level.",
            (Query(total("requests", "budget", "rate", "$__rate_interval"), "{{budget}}"),),
            unit="reqps",
            stacked=True,
        ),
        Panel(
            "Where budgets come from",
            "The request, the model's name (`name@0.4`), `reasoning_effort`, or the default.",
            (Query(total("requests", "source", "rate", "$__rate_interval"), "{{source}}"),),
            unit="reqps",
            stacked=True,
        ),
        Panel(
            "Reasoning tokens a reply, p50",
            "Of every reply, complete or not.",
            (
                Query(
                    "histogram_quantile(0.5, sum by (budget, le) (rate("
                    f"extracot_reasoning_tokens_per_request_bucket{{{ALL}}}[$__rate_interval])))",
                    "{{budget}}",
                ),
            ),
        ),
        Panel(
            "Reasoning tokens a reply, p95",
            "Difficulty spreads it; a cap cuts it off.",
            (
                Query(
                    "histogram_quantile(0.95, sum by (budget, le) (rate("
                    f"extracot_reasoning_tokens_per_request_bucket{{{ALL}}}[$__rate_interval])))",
                    "{{budget}}",
                ),
            ),
        ),
        Row("What `auto` picks"),
        Panel(
            "Choices over time",
            "Share of each level. One colour for hours means that `auto` no longer chooses.",
            (
                Query(
                    f"{total('policy_choices', 'level', 'rate', '$__rate_interval')}"
                    " / ignoring (level) group_left ()"
                    f" (sum ({total('policy_choices', 'level', 'rate', '$__rate_interval')}) > 0)",
                    "{{level}}",
                ),
            ),
            unit="percentunit",
            stacked=True,
        ),
        Panel(
            "Share of the favourite level",
            "Over six hours. Above 0.95 for an hour, ExtracotAutoCollapsed fires.",
            (Query(f"job_model:extracot_policy_choices:top_share6h{{{ALL}}}", "{{model}}"),),
            unit="percentunit",
        ),
        Row("Caps"),
        Panel(
            "Replies whose reasoning was cut",
            "Of all at that level, in the last hour. In cap mode that is how budgets work: "
            "ExtracotCapHits leaves out the caps `budget` and `client`.",
            (
                Query(
                    f"job_model_budget:extracot_cap_hits:share1h{{{ALL}}}", "{{model}} {{budget}}"
                ),
            ),
            unit="percentunit",
        ),
        Panel(
            "Which cap it was",
            "`client` and `operator`: a limit in tokens; `budget`: the ratio, enforced; `room`: "
            "the answer's reserve within max_tokens or the context; `loop`: it repeated itself.",
            (Query(total("budget_cap_hits", "reason", "rate", "$__rate_interval"), "{{reason}}"),),
            stacked=True,
        ),
        Panel(
            "Answers that go on reasoning",
            "Escapes, of the replies whose reasoning was cut. A closing makes them fewer, or a "
            "larger budget.",
            (
                Query(
                    f"{total('reasoning_escapes', 'model, budget', 'rate', '$__rate_interval')}"
                    " / ("
                    f"{total('budget_cap_hits', 'model, budget', 'rate', '$__rate_interval')} > 0)",
                    "{{model}} {{budget}}",
                ),
            ),
            unit="percentunit",
        ),
    ),
)
