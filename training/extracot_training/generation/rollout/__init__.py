"""Rollouts: replies of a model by levels or by its own choice, as token ids in and results out.

``base`` says what is asked and what comes back, ``sampler`` generates from a model in this process,
``engines`` puts that, vLLM and a server of ours behind one interface. Shared by the stages
``reference`` and ``chrpo``; knows neither.
"""
