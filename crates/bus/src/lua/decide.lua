#!lua
-- Appends a batch to a lane with several writers (the control-plane's replicas), if what its writer
-- took into account when it decided is still all there is.
--
-- KEYS[1]  the lane's stream, one with entry IDs by Redis ("shared")
-- KEYS[2]  the run's lanes hash: lane -> "<last sequence> <writer epoch>"
-- ARGV[1]  lane, e.g. control/@control
-- ARGV[2]  sequence of the batch's first message
-- ARGV[3]  sequence of its last message
-- ARGV[4]  the batch
-- ARGV[5]  time to live of both keys, in seconds
-- ARGV[6]  length limit of the stream, in entries (approximate)
-- ARGV[7]  "PUBLISH" or "SPUBLISH"
-- ARGV[8…] pairs: another lane of the run, and the last sequence it must stand at
--
-- Reply    {"OK"}
--          {"MOVED", lane, last sequence}   that lane stands elsewhere: read on, and decide anew
--
-- Invariant: the lane's messages are numbered without a hole, and nothing was said on the lanes that a
-- decision names between what its writer read and the decision. Who repeats a decision because the
-- answer was lost gets MOVED, reads on, and finds it.
--
-- Epoch: nobody holds the lane, so its epoch is the time at which it was begun. By it those who read the
-- run can tell one that was deleted and begun anew, whose lanes may stand where the old ones stood.
local stream, lanes = KEYS[1], KEYS[2]

local function known(lane)
  local state = redis.call('HGET', lanes, lane)
  if not state then return 0, 0 end
  local last, epoch = string.match(state, '^(%d+) (%d+)$')
  return tonumber(last), tonumber(epoch)
end

-- See append.lua: as text, exact up to 2^53.
local function number(n) return string.format('%.0f', n) end

local last, epoch = known(ARGV[1])
if tonumber(ARGV[2]) ~= last + 1 then return {'MOVED', ARGV[1], number(last)} end
if last == 0 then
  -- See "Epoch" above. Exact: microseconds stay below 2^53.
  local now = redis.call('TIME')
  epoch = tonumber(now[1]) * 1000000 + tonumber(now[2])
end
for i = 8, #ARGV, 2 do
  local at = known(ARGV[i])
  if at ~= tonumber(ARGV[i + 1]) then return {'MOVED', ARGV[i], number(at)} end
end

redis.call('XADD', stream, 'MAXLEN', '~', ARGV[6], '*', 'm', ARGV[4])
redis.call(ARGV[7], stream, ARGV[4])
redis.call('HSET', lanes, ARGV[1], ARGV[3] .. ' ' .. number(epoch))
redis.call('EXPIRE', lanes, ARGV[5])
redis.call('EXPIRE', stream, ARGV[5])
return {'OK'}
