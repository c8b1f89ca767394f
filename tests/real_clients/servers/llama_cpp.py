"""llama.cpp's own HTTP server, in an environment of its own: MODEL PORT.

Its chat template opens a think block, as templates of reasoning models do, and takes
``enable_thinking``; SmolLM2's own does neither.
"""

import signal
import sys

import xllamacpp

TEMPLATE = """\
{%- for m in messages %}
{%- if m.role == 'assistant' and m.reasoning_content is defined and m.reasoning_content %}
{{- '<|im_start|>assistant\\n<think>\\n' + m.reasoning_content + '\\n</think>\\n\\n' }}
{{- m.content + '<|im_end|>\\n' }}
{%- else %}
{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}
{{- '<think>\\n\\n</think>\\n\\n' }}
{%- else %}
{{- '<think>\\n' }}
{%- endif %}
{%- endif %}"""

settings = xllamacpp.CommonParams()
settings.model.path = sys.argv[1]
settings.hostnames = ["127.0.0.1"]
settings.port = int(sys.argv[2])
settings.n_ctx, settings.n_parallel = 2048, 2
# Threads wait for each other by spinning, which takes minutes where a core is shared.
settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
settings.use_jinja, settings.chat_template = True, TEMPLATE
settings.warmup = False
server = xllamacpp.Server(settings)
signal.pause()
