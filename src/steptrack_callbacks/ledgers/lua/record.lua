-- Keep the record of a step: in place of an earlier revision, for as long as records are kept.
local answer = begin()
if answer then return answer end
local earlier = redis.call('GET', KEYS[2])
redis.call('ZCARD', KEYS[3])
redis.call('ZCARD', KEYS[4])
if earlier and (cjson.decode(earlier).revision or 0) > asked.revision then return {'kept', epoch} end
try_all()
redis.call('SET', KEYS[2], ARGV[2], 'EX', asked.kept_s)
for _, index in ipairs({KEYS[3], KEYS[4]}) do
  redis.call('ZREMRANGEBYSCORE', index, '-inf', time_text(now - asked.kept_s))
  redis.call('ZADD', index, asked.ended_at, asked.id)
  expire(index, now + asked.kept_s)
end
return {'kept', epoch}
