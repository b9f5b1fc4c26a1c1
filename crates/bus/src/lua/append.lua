#!lua
-- The one way into a lane: append a batch and publish it, at once or not at all.
--
-- KEYS[1]  the lane's stream
-- KEYS[2]  the run's lanes hash: lane -> "<last sequence> <writer epoch>"
-- KEYS[3]  the run's dead letters; only if the batch is one of them
-- ARGV[1]  lane, e.g. output/var-1
-- ARGV[2]  the writer's epoch; 0 claims the lane: the writer gets the next epoch, older ones are fenced
-- ARGV[3]  sequence of the batch's first message
-- ARGV[4]  sequence of its last message
-- ARGV[5]  the batch; empty for a probe, which appends nothing but answers, claims and renews alike
-- ARGV[6]  "own" if the stream has this one writer: entry IDs are sequences; else "shared"
-- ARGV[7]  time to live of both keys, in seconds
-- ARGV[8]  length limit of the stream, in entries (approximate)
-- ARGV[9]  "PUBLISH" or "SPUBLISH"
-- ARGV[10] the lane's last sequence as far as the writer knows: the one before ARGV[3], or a lower
--          one if the writer no longer has what lies between. Such a hole is accepted, but only this one.
-- ARGV[11] with KEYS[3]: the dead letter's ID. It goes when the batch comes, in the same step.
--
-- Reply    {"OK", last sequence, epoch}
--          {"FENCED", last sequence, epoch}   somebody claimed the lane after this writer
--          {"REWIND", last sequence, epoch}   Redis stands there, not at ARGV[10]: cut anew from there
--          {"GONE", last sequence, epoch}     there is no such dead letter: nothing was appended
--
-- Invariant: a lane's stream holds its messages in order, each once; the only holes are those a
-- writer declared, from where to where it said. A retry of what was appended changes nothing.
local stream, lanes = KEYS[1], KEYS[2]
local lane, epoch, first, last = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local batch, own, after = ARGV[5], ARGV[6] == 'own', tonumber(ARGV[10])

local known, holder = 0, 0
local state = redis.call('HGET', lanes, lane)
if state then
  known, holder = string.match(state, '^(%d+) (%d+)$')
  known, holder = tonumber(known), tonumber(holder)
elseif own then
  -- The bookkeeping was evicted but the stream was not: its last ID is the lane's last sequence.
  local tail = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  if tail then known = tonumber(string.match(tail[1], '^(%d+)')) end
end

-- Numbers go out as text: a Lua number would come back cut to an integer reply, and %.0f keeps
-- everything up to 2^53 exact.
local function number(n) return string.format('%.0f', n) end

if epoch == 0 then
  epoch = holder + 1
elseif epoch < holder then
  return {'FENCED', number(known), number(holder)}
end

if batch ~= '' and last > known then
  if known ~= after or first <= known then
    return {'REWIND', number(known), number(holder)}
  end
  if KEYS[3] and #redis.call('XRANGE', KEYS[3], ARGV[11], ARGV[11]) == 0 then
    return {'GONE', number(known), number(holder)}
  end
  local id = own and (ARGV[4] .. '-0') or '*'
  redis.call('XADD', stream, 'MAXLEN', '~', ARGV[8], id, 'm', batch)
  redis.call(ARGV[9], stream, batch)
  -- Last: a script that fails half way, out of memory, keeps what it did.
  if KEYS[3] then redis.call('XDEL', KEYS[3], ARGV[11]) end
  known = last
end

redis.call('HSET', lanes, lane, number(known) .. ' ' .. number(epoch))
redis.call('EXPIRE', lanes, ARGV[7])
redis.call('EXPIRE', stream, ARGV[7])
return {'OK', number(known), number(epoch)}
