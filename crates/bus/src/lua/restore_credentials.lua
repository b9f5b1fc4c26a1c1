#!lua
-- Puts the credentials of runs' Redis users back, if they are lost.
--
-- KEYS[1]  the hash of credentials: run -> JSON, see credential.lua
-- ARGV     pairs: a run, and what was known of its credential
--
-- Reply    1 if they are back, 0 if they were not lost
--
-- Invariant: all or none, so that nobody takes the rest of the runs for ones without a credential.
if redis.call('HGET', KEYS[1], '@') then return 0 end
redis.call('HSET', KEYS[1], '@', '1')
for i = 1, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
return 1
