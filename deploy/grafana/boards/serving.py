"""Rate, latency, queue, engine, and vLLM's own figures."""

from __future__ import annotations

from boards.parts import ALL, JOB, Board, Panel, Query, Row, quantiles, total

VLLM = JOB.replace("$job", "$job|vllm")
SERVING = Board(
    uid="serving",
    title="Extra-CoT: Serving",
    description="Rate, latency, queue, engine, and vLLM's own figures.",
    span="1h",
    panels=(
        Panel(
            "Servers up",
            "Front ends that can be scraped.",
            # Every job has `up`, and a server that is gone has none.
            (Query(f'sum(up{{{JOB}, job=~"extracot.*"}}) or vector(0)'),),
            kind="stat",
            width=4,
        ),
        Panel(
            "Engines up",
            "Of each model and server.",
            (Query(f"sum(extracot_engine_up{{{ALL}}})"),),
            kind="stat",
            width=4,
        ),
        Panel(
            "Requests",
            "A second, that reached the engine.",
            (Query(total("requests", "", "rate", "$__rate_interval")),),
            kind="stat",
            unit="reqps",
            width=4,
        ),
        Panel(
            "Failures",
            "Of the server or its engine, over five minutes.",
            (Query(f"max(job:extracot_failures:share5m{{{JOB}}})"),),
            kind="stat",
            unit="percentunit",
            width=4,
        ),
        Panel(
            "In flight",
            "Requests in the engine now.",
            (Query(f"sum(extracot_requests_in_flight{{{JOB}}})"),),
            kind="stat",
            width=4,
        ),
        Panel(
            "Queued",
            "Requests waiting in the queue now.",
            (Query(f"sum(extracot_requests_queued{{{JOB}}})"),),
            kind="stat",
            width=4,
        ),
        Row("Rate"),
        Panel(
            "Requests by outcome",
            "`length` reached max_tokens, `aborted`: the client left, `dropped` at shutdown.",
            (Query(total("requests", "outcome", "rate", "$__rate_interval"), "{{outcome}}"),),
            unit="reqps",
            stacked=True,
        ),
        Panel(
            "Refused before the engine",
            "By the error's code.",
            (Query(total("rejected", "reason", "rate", "$__rate_interval", JOB), "{{reason}}"),),
            unit="reqps",
            stacked=True,
        ),
        Panel(
            "Tokens a second",
            "Prompt tokens and generated tokens.",
            tuple(
                Query(total(f"{part}_tokens", "", "rate", "$__rate_interval"), part)
                for part in ("prompt", "reasoning", "answer", "overhead")
            ),
        ),
        Panel(
            "Upstreams",
            "1 while a server behind these is healthy for all of them (engines `remote` and "
            "`openai`): the least that any of them sees, as the alert has it.",
            (
                Query(
                    f"min by (model, upstream) (extracot_upstream_up{{{JOB}}})",
                    "{{model}}: {{upstream}}",
                ),
            ),
        ),
        Row("Latency"),
        Panel(
            "To the first token",
            "Of any kind: reasoning or answer.",
            quantiles("extracot_time_to_first_token_seconds"),
            unit="s",
            width=8,
        ),
        Panel(
            "To the first token of the answer",
            "A smaller budget shortens it.",
            quantiles("extracot_time_to_first_answer_token_seconds"),
            unit="s",
            width=8,
        ),
        Panel(
            "End to end",
            "Of completed requests.",
            quantiles("extracot_request_duration_seconds"),
            unit="s",
            width=8,
        ),
        Panel(
            "Between tokens",
            "As they arrive in the server.",
            quantiles("extracot_inter_token_seconds", labels=JOB),
            unit="s",
            width=8,
        ),
        Panel(
            "Time in the queue",
            "Only with --max-running; otherwise zero.",
            quantiles("extracot_queue_seconds", labels=JOB),
            unit="s",
            width=8,
        ),
        Panel(
            "Before the engine",
            "Reading, checking, resolving, rendering.",
            quantiles("extracot_frontend_overhead_seconds", labels=JOB),
            unit="s",
            width=8,
        ),
        Row("Queue"),
        Panel(
            "Running and waiting",
            "In the server itself.",
            (
                Query(
                    f"sum by (instance) (extracot_requests_in_flight{{{JOB}}})",
                    "{{instance}} in flight",
                ),
                Query(
                    f"sum by (instance) (extracot_requests_queued{{{JOB}}})", "{{instance}} queued"
                ),
            ),
        ),
        Panel(
            "Running and waiting in vLLM",
            "The batch. Waiting requests mean that the KV cache or the batch is full.",
            (
                Query(
                    f"sum by (instance) (vllm:num_requests_running{{{VLLM}}})",
                    "{{instance}} running",
                ),
                Query(
                    f"sum by (instance) (vllm:num_requests_waiting{{{VLLM}}})",
                    "{{instance}} waiting",
                ),
            ),
        ),
        Row("vLLM"),
        Panel(
            "KV cache in use",
            "Near 1, requests wait or are preempted: run fewer, shorten the context, or add GPUs.",
            (Query(f"max by (instance) (vllm:kv_cache_usage_perc{{{VLLM}}})", "{{instance}}"),),
            unit="percentunit",
            width=8,
        ),
        Panel(
            "Tokens of a step",
            "How full a batch is: prompt and generated tokens of one engine step.",
            quantiles("vllm:iteration_tokens_total", labels=VLLM),
            width=8,
        ),
        Panel(
            "Tokens a second in vLLM",
            "By its own count, retries and dropped tokens included.",
            (
                Query(f"sum(rate(vllm:prompt_tokens_total{{{VLLM}}}[$__rate_interval]))", "prompt"),
                Query(
                    f"sum(rate(vllm:generation_tokens_total{{{VLLM}}}[$__rate_interval]))",
                    "generated",
                ),
            ),
            width=8,
        ),
        Panel(
            "Prefix cache hits",
            "Share of prompt tokens that were in the cache.",
            (
                Query(
                    f"sum(rate(vllm:prefix_cache_hits_total{{{VLLM}}}[$__rate_interval]))"
                    " / (sum(rate("
                    f"vllm:prefix_cache_queries_total{{{VLLM}}}[$__rate_interval])) > 0)",
                    "hits",
                ),
            ),
            unit="percentunit",
            width=8,
        ),
        Panel(
            "Preemptions",
            "Requests put back because the KV cache was full; each is computed again.",
            (
                Query(
                    f"sum(rate(vllm:num_preemptions_total{{{VLLM}}}[$__rate_interval]))",
                    "preemptions",
                ),
            ),
            width=8,
        ),
        Panel(
            "Waiting inside vLLM",
            "From arrival to the first step.",
            quantiles("vllm:request_queue_time_seconds", labels=VLLM),
            unit="s",
            width=8,
        ),
        Row("What runs"),
        Panel(
            "Versions",
            "Of each server: a rolling restart shows two.",
            (
                Query(
                    "max by (instance, model, mode, engine, engine_version, version, device)"
                    f" (extracot_build_info{{{ALL}}})"
                ),
            ),
            kind="table",
            width=24,
        ),
    ),
)
