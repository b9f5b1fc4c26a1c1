#!lua
-- Keeps a run's read model, unless a newer one is kept.
--
-- KEYS[1]  the run's read model, a hash of two fields: total and summary
-- KEYS[2]  the run's lanes hash: lane -> "<last sequence> <writer epoch>"
-- KEYS[3…] further keys that live as long as the run: its snapshots
-- ARGV[1]  how much is folded into it: the sum of its positions
-- ARGV[2]  the read model
-- ARGV[3…] pairs: a lane, and its position in it
--
-- Reply    {"OK"}
--          {"OLDER", total}   more is folded into the one that is kept
--          {"AHEAD", lane}    it is of messages that the lane does not have: the run was deleted and
--                             begun anew, or a tail was lost in a failover
--
-- Invariant: the read model that is kept only grows, and tells of nothing that the run did not say.
local kept, lanes = KEYS[1], KEYS[2]

for i = 3, #ARGV, 2 do
  local state = redis.call('HGET', lanes, ARGV[i])
  local known = state and tonumber(string.match(state, '^(%d+)')) or 0
  if known < tonumber(ARGV[i + 1]) then return {'AHEAD', ARGV[i]} end
end
local total = redis.call('HGET', kept, 'total')
if total and tonumber(total) > tonumber(ARGV[1]) then return {'OLDER', total} end

redis.call('HSET', kept, 'total', ARGV[1], 'summary', ARGV[2])
local ttl = redis.call('PTTL', lanes)
if ttl > 0 then
  redis.call('PEXPIRE', kept, string.format('%.0f', ttl))
  for i = 3, #KEYS do redis.call('PEXPIRE', KEYS[i], string.format('%.0f', ttl)) end
end
return {'OK'}
