"""The store in Redis, for servers on several machines: each change is one script, so it is whole.

Counts are as durable as that Redis is: set `appendonly yes` there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from typing import Any

import redis

from extracot_server.ledger.store import (
    FORGOTTEN_SECONDS,
    LOST_SECONDS,
    Address,
    Amounts,
    Claim,
    Claimed,
    StoreError,
)
from extracot_server.ledger.windows import expires

_SECONDS = 2.0
_SCANNED = 1000  # fields of one step, between which Redis serves others
_PREFIX = "{extracot}:"  # one slot, so that a script may use all of them in a cluster
_ADD = """
local p = '{extracot}:'
local function add(row, sign)
  redis.call('HINCRBYFLOAT', p .. row[1], row[2], tostring(sign * row[3]))
  if row[4] > 0 then redis.call('EXPIREAT', p .. row[1], row[4]) end
end
"""
_CLAIM = f"""{_ADD}
local rows, used, admitted = cjson.decode(ARGV[3]), {{}}, 1
for i, row in ipairs(rows) do
  used[i] = redis.call('HGET', p .. row[1], row[2]) or '0'
  if row[5] >= 0 and tonumber(used[i]) + row[3] > row[5] then admitted = 0 end
end
if admitted == 1 then
  for _, row in ipairs(rows) do add(row, 1) end
  redis.call('HSET', p .. 'claims:' .. ARGV[1], ARGV[2], ARGV[3])
  redis.call('ZADD', p .. 'owners', 'NX', ARGV[4], ARGV[1])
end
return {{admitted, used}}
"""
_SETTLE = f"""{_ADD}
local number = tonumber(ARGV[2])
if tonumber(redis.call('HGET', p .. 'numbers', ARGV[1]) or '0') >= number then return end
for _, id in ipairs(cjson.decode(ARGV[3])) do
  local claim = redis.call('HGET', p .. 'claims:' .. ARGV[1], id)
  if claim then
    for _, row in ipairs(cjson.decode(claim)) do add(row, -1) end
    redis.call('HDEL', p .. 'claims:' .. ARGV[1], id)
  end
end
for _, row in ipairs(cjson.decode(ARGV[4])) do add(row, 1) end
redis.call('HSET', p .. 'numbers', ARGV[1], number)
"""
_USED = """
local p = '{extracot}:'
local used, place = {}, {}
for i, row in ipairs(cjson.decode(ARGV[1])) do
  used[i] = tonumber(redis.call('HGET', p .. row[1], row[2]) or '0')
  place[row[1] .. ' ' .. row[2]] = i
end
for _, owner in ipairs(redis.call('ZRANGE', p .. 'owners', 0, -1)) do
  for _, claim in ipairs(redis.call('HVALS', p .. 'claims:' .. owner)) do
    for _, row in ipairs(cjson.decode(claim)) do
      local i = place[row[1] .. ' ' .. row[2]]
      if i then used[i] = used[i] - row[3] end
    end
  end
end
for i, value in ipairs(used) do used[i] = tostring(value) end
return used
"""
_TEND = f"""{_ADD}
redis.call('ZADD', p .. 'owners', ARGV[2], ARGV[1])
for _, owner in ipairs(redis.call('ZRANGEBYSCORE', p .. 'owners', '-inf', '(' .. ARGV[3])) do
  for _, claim in ipairs(redis.call('HVALS', p .. 'claims:' .. owner)) do
    for _, row in ipairs(cjson.decode(claim)) do add(row, -1) end
  end
  redis.call('DEL', p .. 'claims:' .. owner)
end
for _, owner in ipairs(redis.call('ZRANGEBYSCORE', p .. 'owners', '-inf', '(' .. ARGV[4])) do
  redis.call('ZREM', p .. 'owners', owner)
  redis.call('HDEL', p .. 'numbers', owner)
end
"""


class RedisStore:
    """A :class:`~extracot_server.ledger.store.Store` under keys that begin with {extracot}."""

    def __init__(self, url: str, shown: str) -> None:
        """``shown`` is the URL without its password, for errors."""
        self._url, self._shown = url, shown
        try:
            self._redis = redis.Redis.from_url(
                url,
                decode_responses=True,
                socket_timeout=_SECONDS,
                socket_connect_timeout=_SECONDS,
                retry=None,  # a call that may have been carried out is for the ledger to repeat
            )
            pool = self._redis.connection_pool
            # Reads the URL's options, opens nothing.
            pool.connection_class(**pool.connection_kwargs)
        except (TypeError, ValueError) as error:
            raise StoreError(f"usage store {shown}: an option of its URL: {error}") from None
        register = self._redis.register_script
        self._scripts = {name: register(text) for name, text in _TEXTS.items()}

    def claim(self, owner: str, claims: Sequence[Claim]) -> list[Claimed]:
        """See ``Store``."""
        return [self._claim(owner, claim) for claim in claims]

    def _claim(self, owner: str, claim: Claim) -> Claimed:
        addresses = sorted(claim.amounts)
        rows = [
            [*address, claim.amounts[address], expires(address[0]), claim.limits.get(address, -1)]
            for address in addresses
        ]
        admitted, used = self._call("claim", owner, claim.id, json.dumps(rows), 0)
        found = {address: float(text) for address, text in zip(addresses, used, strict=True)}
        return Claimed(bool(admitted), found)

    def settle(self, owner: str, number: int, ids: Sequence[str], amounts: Amounts) -> None:
        """See ``Store``."""
        rows = [[*address, amount, expires(address[0])] for address, amount in amounts.items()]
        self._call("settle", owner, number, json.dumps(list(ids)), json.dumps(rows))

    def values(self, addresses: Collection[Address]) -> dict[Address, float]:
        """See ``Store``."""
        try:
            with self._redis.pipeline(transaction=False) as pipe:
                for bucket, name in addresses:
                    pipe.hget(_PREFIX + bucket, name)
                found = pipe.execute()
        except redis.RedisError as error:
            raise self._lost(error) from None
        return {a: float(text or 0) for a, text in zip(addresses, found, strict=True)}

    def used(self, addresses: Collection[Address]) -> dict[Address, float]:
        """See ``Store``."""
        asked = list(addresses)
        found = self._call("used", json.dumps(asked))
        return {address: float(text) for address, text in zip(asked, found, strict=True)}

    def read(self, buckets: Sequence[str], key: str | None = None) -> dict[str, dict[str, float]]:
        """See ``Store``."""
        match = None if key is None else re.sub(r"([][*?\\^-])", r"\\\1", key) + " *"
        found: dict[str, dict[str, float]] = {}
        left = dict.fromkeys(buckets, 0)
        try:
            while left:
                with self._redis.pipeline(transaction=False) as pipe:
                    for bucket, cursor in left.items():
                        pipe.hscan(_PREFIX + bucket, cursor, match, _SCANNED)
                    steps = dict(zip(left, pipe.execute(), strict=True))
                for bucket, (_, counters) in steps.items():
                    if counters:
                        values = {name: float(text) for name, text in counters.items()}
                        found.setdefault(bucket, {}).update(values)
                left = {bucket: int(cursor) for bucket, (cursor, _) in steps.items() if int(cursor)}
        except redis.RedisError as error:
            raise self._lost(error) from None
        return found

    def reader(self) -> RedisStore:
        """See ``Store``."""
        return RedisStore(self._url, self._shown)

    def now(self) -> float:
        """See ``Store``."""
        try:
            seconds, microseconds = self._redis.time()
        except redis.RedisError as error:
            raise self._lost(error) from None
        return float(seconds + microseconds / 1e6)

    def tend(self, owner: str, now: float) -> None:
        """See ``Store``."""
        self._call("tend", owner, now, now - LOST_SECONDS, now - FORGOTTEN_SECONDS)

    def close(self) -> None:
        """See ``Store``."""
        self._redis.close()

    def _call(self, script: str, *values: str | float) -> Any:
        try:
            return self._scripts[script](args=list(values))
        except redis.RedisError as error:
            raise self._lost(error) from None

    def _lost(self, error: redis.RedisError) -> StoreError:
        text = " ".join(str(error).split())[:200]
        return StoreError(f"usage store {self._shown}: {text}")


_TEXTS = {"claim": _CLAIM, "settle": _SETTLE, "used": _USED, "tend": _TEND}
