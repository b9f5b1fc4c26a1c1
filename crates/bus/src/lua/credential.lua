#!lua
-- Replaces what is known of the credential of a run's Redis user, if it is still what the caller read.
--
-- KEYS[1]  the hash of credentials: run -> JSON
-- ARGV[1]  the run
-- ARGV[2]  what the caller read; empty for nothing
-- ARGV[3]  what is to stand there; empty for nothing
--
-- Reply    1 if it stands there now, 0 if something else was there
--
-- Invariant: once a credential was ever kept, the hash has the field "@", which is no run's. Who finds none knows
-- that the hash was lost, not that nobody has a credential.
local now = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if now ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], '@', '1')
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
return 1
