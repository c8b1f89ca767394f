"""What each key used and saved, how full quotas are, and whether all of it is written down."""

from __future__ import annotations

from boards.parts import JOB, Board, Panel, Query, Row

KEY = f'{JOB}, key=~"$key"'
USED = 'kind=~"prompt|reasoning|answer|overhead"'
LIMITS = "insufficient_quota|rate_limit_exceeded|concurrency|usage_store_unavailable"


def used(by: str, function: str = "increase", window: str = "$__range") -> str:
    """Tokens of the keys chosen: prompts and all that was generated."""
    group = f" by ({by})" if by else ""
    return f"sum{group} ({function}(extracot_key_tokens_total{{{KEY}, {USED}}}[{window}]))"


def one_kind(kind: str, by: str, function: str = "increase", window: str = "$__range") -> str:
    """The same of one kind of token."""
    group = f" by ({by})" if by else ""
    labels = f'{KEY}, kind="{kind}"'
    return f"sum{group} ({function}(extracot_key_tokens_total{{{labels}}}[{window}]))"


def saved(by: str) -> str:
    """Saved, always less the overspent ones."""
    return f"{one_kind('saved', by)} - {one_kind('overspent', by)}"


def fullest(when_over: str) -> str:
    """How full quotas are. Several servers show the same one; the highest is the latest word."""
    labels = f'{JOB}, when_over="{when_over}"'
    return f"max by (owner, kind, per) (extracot_quota_used_ratio{{{labels}}})"


USAGE = Board(
    uid="usage",
    title="Extra-CoT: Usage",
    description="What each key used and saved, quotas, and the store they are kept in.",
    span="24h",
    choices=("job", "key"),
    panels=(
        Panel(
            "Keys in use",
            "Keys that used any token in the time shown.",
            (Query(f"count({used('key')} > 0)"),),
            kind="stat",
            width=4,
            decimals=0,
        ),
        Panel(
            "Tokens used",
            "Prompts and all that was generated in the time shown. Prometheus' estimate: for bills "
            "there is `GET /v1/usage`, which counts each request once.",
            (Query(used("")),),
            kind="stat",
            width=4,
            decimals=0,
        ),
        Panel(
            "Reasoning tokens saved",
            "Saved minus overspent, against the baseline of card or holdout, in the time shown.",
            (Query(saved("")),),
            kind="stat",
            width=4,
            decimals=0,
        ),
        Panel(
            "Fullest quota",
            "Of those that refuse. Above 0.9 of a day's or a month's, ExtracotQuotaNearEnd fires.",
            (Query(f"max({fullest('refuse')})"),),
            kind="stat",
            unit="percentunit",
            width=4,
        ),
        Panel(
            "Store of usage",
            "1 while every server can write to it. At 0, quotas are not enforced, or requests are "
            "refused (--usage-store-lost).",
            (Query(f"min(extracot_usage_store_up{{{JOB}}})"),),
            kind="stat",
            width=4,
        ),
        Panel(
            "Keys file",
            "1 where the last reload was taken. At 0, a key that was revoked may still work.",
            (Query(f"min(extracot_keys_last_reload_successful{{{JOB}}})"),),
            kind="stat",
            width=4,
        ),
        Row("By key"),
        Panel(
            "Tokens used, by key",
            "In the time shown.",
            (Query(used("key"), "{{key}}"),),
            kind="bargauge",
            decimals=0,
            width=8,
        ),
        Panel(
            "Reasoning tokens saved, by key",
            "Saved minus overspent. Below zero where replies run longer than their baseline.",
            (Query(saved("key"), "{{key}}"),),
            kind="bargauge",
            decimals=0,
            width=8,
        ),
        Panel(
            "Share of reasoning, by key",
            "Of reasoning and answer together. A key with a large share gains most from a smaller "
            "budget.",
            (
                Query(
                    f"{one_kind('reasoning', 'key')} / "
                    f"(({one_kind('reasoning', 'key')} + {one_kind('answer', 'key')}) > 0)",
                    "{{key}}",
                ),
            ),
            kind="bargauge",
            unit="percentunit",
            width=8,
        ),
        Panel(
            "Tokens a second, by key",
            "Prompts and all that was generated.",
            (Query(used("key", "rate", "$__rate_interval"), "{{key}}"),),
            stacked=True,
        ),
        Panel(
            "Tokens a second, by kind",
            "Of the keys chosen above.",
            (Query(used("kind", "rate", "$__rate_interval"), "{{kind}}"),),
            stacked=True,
        ),
        Row("Quotas and limits"),
        Panel(
            "Used of quotas that refuse",
            "What is used, without open claims, as of the end of the owner's last request.",
            (Query(fullest("refuse"), "{{owner}}: {{kind}} per {{per}}"),),
            kind="bargauge",
            unit="percentunit",
        ),
        Panel(
            "Used of quotas that lower budgets",
            "At 1 the owner's requests run at the quota's budget, and none is refused.",
            (Query(fullest("lower"), "{{owner}}: {{kind}} per {{per}}"),),
            kind="bargauge",
            unit="percentunit",
        ),
        Panel(
            "Quotas over time",
            "It falls within a minute when a new one, a day or a month begins (UTC).",
            (
                Query(fullest("refuse"), "{{owner}}: {{kind}} per {{per}}"),
                Query(fullest("lower"), "{{owner}}: {{kind}} per {{per}}, lowers"),
            ),
            unit="percentunit",
        ),
        Panel(
            "Refused by limits",
            "Requests a second: by a quota, by a key's limits, or for want of the store.",
            (
                Query(
                    "sum by (reason) (rate("
                    f'extracot_rejected_total{{{JOB}, reason=~"{LIMITS}"}}[$__rate_interval]))',
                    "{{reason}}",
                ),
            ),
            unit="reqps",
            stacked=True,
        ),
        Row("The store"),
        Panel(
            "Each server's store",
            "1 while that server can write usage.",
            (Query(f"extracot_usage_store_up{{{JOB}}}", "{{instance}}"),),
        ),
        Panel(
            "Requests not written yet",
            "They wait in the server's memory until the store is back, and are counted once.",
            (Query(f"extracot_usage_unwritten_requests{{{JOB}}}", "{{instance}}"),),
        ),
    ),
)
