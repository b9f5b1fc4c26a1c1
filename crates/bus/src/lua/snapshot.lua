#!lua
-- Appends the joined text of an output lane's next messages to the lane's snapshots.
--
-- KEYS[1]  the lane's snapshots, a stream
-- KEYS[2]  the run's lanes hash: lane -> "<last sequence> <writer epoch>"
-- ARGV[1]  lane, e.g. output/var-1
-- ARGV[2]  the last sequence that the snapshots stand for as far as the writer knows; 0 if there are none
-- ARGV[3]  sequence of the text's first message. Above ARGV[2] + 1 it leaves a hole, which a writer may
--          do only where it found that the messages cannot be had: text is never joined over a hole.
-- ARGV[4]  sequence of its last message
-- ARGV[5]  the text, as a zstd frame
-- ARGV[6]  length limit of the stream, in entries (approximate)
--
-- Reply    {"OK", ARGV[4]}
--          {"MOVED", last}   the snapshots stand there: another writer was first, or they are gone
--          {"AHEAD", last}   the lane itself stands there, before ARGV[4]: its run was deleted and begun
--                            anew, or its tail was lost in a failover
--
-- Invariant: entries lie one after the other, none over another, in the order of the lane; none is of
-- messages that the lane does not have. Snapshots live as long as the run does.
local snapshots, lanes = KEYS[1], KEYS[2]
local after, first, last = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

-- See append.lua: as text, exact up to 2^53.
local function number(n) return string.format('%.0f', n) end

local known = 0
local state = redis.call('HGET', lanes, ARGV[1])
if state then known = tonumber(string.match(state, '^(%d+)')) end
if known < last then return {'AHEAD', number(known)} end

local stands = 0
local tail = redis.call('XREVRANGE', snapshots, '+', '-', 'COUNT', 1)[1]
if tail then stands = tonumber(string.match(tail[1], '^(%d+)')) end
if stands ~= after or first <= after or last < first then return {'MOVED', number(stands)} end

redis.call('XADD', snapshots, 'MAXLEN', '~', ARGV[6], ARGV[4] .. '-0', 'first', ARGV[3], 'z', ARGV[5])
local ttl = redis.call('PTTL', lanes)
if ttl > 0 then redis.call('PEXPIRE', snapshots, number(ttl)) end
return {'OK', ARGV[4]}
