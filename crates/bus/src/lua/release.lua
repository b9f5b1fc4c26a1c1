#!lua
-- Keeps a run's keys for less, if the run still stands where its caller found it.
--
-- KEYS[1]  the run's lanes hash: lane -> "<last sequence> <writer epoch>"
-- KEYS[2…] its other keys
-- ARGV[1]  time to live, in seconds; a key that has less keeps what it has
-- ARGV[2…] pairs: each lane of the run, and the last sequence that the caller knows of it
--
-- Reply    {"OK"}
--          {"MOVED"}   there is a lane or a message that the caller does not know: nothing was changed
--
-- Invariant: what nobody has stored elsewhere is not let go earlier than its writer said.
local ttl = tonumber(ARGV[1])
local lanes = redis.call('HGETALL', KEYS[1])
local known = {}
for i = 2, #ARGV, 2 do known[ARGV[i]] = ARGV[i + 1] end

for i = 1, #lanes, 2 do
  if known[lanes[i]] ~= string.match(lanes[i + 1], '^(%d+)') then return {'MOVED'} end
end
for _, key in ipairs(KEYS) do
  if redis.call('TTL', key) > ttl then redis.call('EXPIRE', key, ARGV[1]) end
end
return {'OK'}
