#!lua flags=no-writes
-- One page of a stream together with where its lane stands, read at one instant: whether a message
-- is missing can only be told if both come from the same server at the same time.
--
-- KEYS[1]  the lane's stream
-- KEYS[2]  the run's lanes hash
-- ARGV[1]  lane; empty for the readers of all the lanes that the stream carries
-- ARGV[2]  entry ID to read after
-- ARGV[3]  most entries to return
--
-- Reply    {"<last sequence> <epoch>" or false if Redis knows no such lane, {{id, {field, value, …}}, …}}
--          For all lanes {lane, "<last sequence> <epoch>", …} instead of the one: on the stream's last page
--          only, since no other tells of what is missing.
--
-- Invariant: reads only.
local entries = redis.call('XRANGE', KEYS[1], '(' .. ARGV[2], '+', 'COUNT', ARGV[3])
local stands
if ARGV[1] ~= '' then
  stands = redis.call('HGET', KEYS[2], ARGV[1])
elseif #entries < tonumber(ARGV[3]) then
  stands = redis.call('HGETALL', KEYS[2])
else
  stands = {}
end
return { stands, entries }
