# The rehearsal of qwen3-1.7b.sh: every command of it on a CPU, small. Sourced, not run. Sets $out,
# MODEL, DATA and what steps are made small by, in $more. REHEARSE=small starts vLLM twice instead of
# four times. Stages, their order, the tokenizer, the template and the architecture are the real ones.
export VLLM_CPU_KVCACHE_SPACE=${VLLM_CPU_KVCACHE_SPACE:-1}
if [[ ! ${DRY:-}${PLAN:-} ]]; then python3 training/recipes/rehearsal.py "$out/start"; fi
MODEL=$out/start/model DATA=$out/start/data DEVICE=cpu
serve_flags=(--vllm dtype=float32 --vllm enforce_eager=true)

engine='backend.batch=64 backend.engine={"dtype":"float32","max_model_len":1024,"enforce_eager":true}'
replies=$engine
if [[ $REHEARSE == small ]]; then
  replies='backend={"kind":"generate","batch":32,"device":"cpu"}'
fi
trained="device=cpu precision=fp32 checkpoint_every=1"
tuned="$trained max_steps=3 batch=1 global_batch=4 log_every=1"
asked="limit=2 concurrency=4 sampling.max_tokens=96 samples=1 budgets=[0.2,1.0,auto,native]"
learnt="$trained steps=2 global_prompts=2 group=5 micro_batch=5 trainer.use_vllm=false \
  rollouts.max_tokens=64 evaluation.every=1 evaluation.problems=2 evaluation.batch=2 \
  evaluation.max_tokens=48"

more[problems]="splits.dev=0.2"
more[reasoning]="sources.0.size=8 sources.0.length=[300,400]"
more[compressor]="marked=[] epochs=1 network.members=1 dev_share=0.2"
more[teach]="$engine limit=10 samples=4 sampling.max_tokens=64 sampling.temperature=1.0 sampling.top_p=1.0"
more[compress]="bucket=1.0 cleaning.min_tokens=0 cleaning.max_bigram_repeats=1.0 \
  cleaning.max_trigram_repeats=1.0 cleaning.max_top_word=1.0 cleaning.max_run=99"
more[sft-fixed]=$tuned
more[sft]="$tuned processes=2"
asked_for="k=2 drawing.max_tokens=48 drawing.temperature=1.0 drawing.top_p=1.0"
more[reference-fixed]="$replies $asked_for limit=6" # some of those that were taught
more[reference]="$replies $asked_for limit=3"
more[chrpo]="$learnt processes=2"
more[chrpo-alone]=$learnt
for name in evaluate evaluate-gsm8k evaluate-math500 evaluate-amc; do more[$name]=$asked; done
more[evaluate]="$asked budgets=[0.2,0.4,0.6,0.8,1.0,auto,native]"
