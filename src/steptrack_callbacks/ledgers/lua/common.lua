-- What all scripts share. ARGV[1] is what is asked, as JSON; KEYS[1] says what store this is. An account
-- is two keys, one after the other: a hash of its sums, and a hash of the reservations on it.
-- Everything is read before anything is written: a key of the wrong type fails a script before it has
-- changed a thing, and Redis does not roll back.

local SCHEMA = 1
local asked = cjson.decode(ARGV[1])
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6
local epoch

-- Lua's numbers are exact up to 2^53 only, so a sum is two of them: high * BASE + low, 0 <= low < BASE.
local BASE = 1e10
local MOST_HIGH, MOST_LOW = 922337203, 6854775807 -- 2^63 - 1

local function parse(text)
  local sign, digits = string.match(text, '^(%-?)(%d+)$')
  local cut = math.max(#digits - 10, 0)
  local high, low = tonumber(string.sub(digits, 1, cut)) or 0, tonumber(string.sub(digits, cut + 1))
  if sign == '' then return high, low end
  if low == 0 then return -high, 0 end
  return -high - 1, BASE - low
end

local function write(high, low)
  local sign = ''
  if high < 0 then
    sign, high = '-', -high
    if low > 0 then high, low = high - 1, BASE - low end
  end
  if high == 0 and low == 0 then return '0' end
  if high == 0 then return sign .. string.format('%.0f', low) end
  return sign .. string.format('%.0f%010.0f', high, low)
end

-- Whether a number is exact as one of Lua's, and its sum with another such one as well: nearly all are.
local function is_small(text) return #text < 16 and string.find(text, '^%-?%d+$') ~= nil end

local function plus(one, other)
  if is_small(one) and is_small(other) then return string.format('%.0f', tonumber(one) + tonumber(other)) end
  local high, low = parse(one)
  local more_high, more_low = parse(other)
  high, low = high + more_high, low + more_low
  if low >= BASE then high, low = high + 1, low - BASE end
  return write(high, low)
end

local function minus(one, other)
  if string.sub(other, 1, 1) == '-' then return plus(one, string.sub(other, 2)) end
  return plus(one, '-' .. other)
end

local function less(one, other)
  if is_small(one) and is_small(other) then return tonumber(one) < tonumber(other) end
  local high, low = parse(one)
  local other_high, other_low = parse(other)
  return high < other_high or (high == other_high and low < other_low)
end

local function fits_books(total)
  if is_small(total) then return true end
  local high, low = parse(string.gsub(total, '^%-', '', 1))
  return high < MOST_HIGH or (high == MOST_HIGH and low <= MOST_LOW)
end

local function time_text(seconds) return string.format('%.6f', seconds) end

-- The epoch is random, and new whenever the server may have lost something: it was started again, perhaps
-- from an older copy, or all was flushed, or another server took over.
local function begin()
  local meta = redis.call('HMGET', KEYS[1], 'schema', 'epoch', 'server')
  if meta[1] and tonumber(meta[1]) ~= SCHEMA then return {'schema', meta[1]} end
  local info = redis.pcall('INFO', 'server')
  local server = type(info) == 'string' and string.match(info, 'run_id:(%x+)') or 'unknown'
  epoch = meta[2]
  if not epoch or meta[3] ~= server then
    epoch = asked.fresh
    redis.call('HSET', KEYS[1], 'schema', SCHEMA, 'epoch', epoch, 'server', server)
  end
  if asked.epoch and asked.epoch ~= epoch then return {'epoch', epoch} end
end

local function load(slot)
  local raw = redis.call('HGETALL', KEYS[slot])
  local account = {slot = slot, of = {}, dropped = {}, held = {}, changed = false}
  for i = 1, #raw, 2 do account.of[raw[i]] = raw[i + 1] end
  local of = account.of
  account.unknown = of.seq == nil
  if account.unknown then
    of.seq, of.calls, of.cost, of.tokens, of.lapsed = '0', '0', '0', '0', '0'
    return account
  end
  if not of.lapse or tonumber(of.lapse) > now then return account end
  -- A lease may be over. Summing up what is left also mends what an eviction has torn.
  local held, calls, cost, tokens, first = redis.call('HGETALL', KEYS[slot + 1]), 0, '0', '0', nil
  for i = 1, #held, 2 do
    local till, its_cost, its_tokens = string.match(held[i + 1], '^(%S+) (%S+) (%S+)$')
    if tonumber(till) <= now then
      account.dropped[#account.dropped + 1] = held[i]
    else
      calls, cost, tokens = calls + 1, plus(cost, its_cost), plus(tokens, its_tokens)
      first = math.min(first or math.huge, tonumber(till))
    end
  end
  of.calls, of.cost, of.tokens = tostring(calls), cost, tokens
  of.lapsed = tostring(tonumber(of.lapsed) + #account.dropped)
  of.lapse = first and time_text(first) or ''
  if of.lapse == '' then of.lapse = nil; account.unleased = true end
  account.changed = true
  return account
end

-- Return a call's reservation on an account, or nothing.
local function holding(account, call)
  if account.unknown then return nil end
  local kept = redis.call('HGET', KEYS[account.slot + 1], call)
  if not kept then return nil end
  local till, cost, tokens = string.match(kept, '^(%S+) (%S+) (%S+)$')
  if tonumber(till) <= now then return nil end -- dropped by load
  return {cost = cost, tokens = tokens}
end

local function give_back(account, call, hold)
  local of = account.of
  of.calls = tostring(tonumber(of.calls) - 1)
  of.cost, of.tokens = minus(of.cost, hold.cost), minus(of.tokens, hold.tokens)
  account.dropped[#account.dropped + 1] = call
  account.changed = true
end

local function put_hold(account, call, hold, till)
  local of = account.of
  of.calls = tostring(tonumber(of.calls) + 1)
  of.cost, of.tokens = plus(of.cost, hold.cost), plus(of.tokens, hold.tokens)
  of.lapse = time_text(math.min(tonumber(of.lapse or 'inf') or math.huge, till))
  account.held[call] = time_text(till) .. ' ' .. hold.cost .. ' ' .. hold.tokens
  account.changed = true
end

-- Make an account last at least until a time; nothing is forever.
local function last_until(account, expires)
  local of = account.of
  if account.unknown then
    of.opened = of.opened or time_text(now)
    of.expires = expires
    account.lasts = true
  elseif of.expires and (not expires or tonumber(expires) > tonumber(of.expires)) then
    account.stays = not expires
    of.expires = expires
    account.lasts = true
  end
end

-- What the account had when this epoch began is what the server did not lose.
local function note_base(account)
  local of = account.of
  if of.epoch == epoch then return end
  local bases = {}
  for name, sum in pairs(of) do
    if string.sub(name, 1, 2) == 's:' then bases['b:' .. string.sub(name, 3)] = sum end
  end
  for name, sum in pairs(bases) do of[name] = sum end
  of.epoch = epoch
end

local function expire(key, expires)
  if expires then redis.call('PEXPIREAT', key, string.format('%.0f', tonumber(expires) * 1000)) end
end

local function join(account, group, open)
  local of = account.of
  local score = of.expires or '+inf'
  for _, key in ipairs({group, not of.closed and open or nil}) do
    redis.call('ZREMRANGEBYSCORE', key, '-inf', time_text(now))
    redis.call('ZADD', key, score, asked.keys[account.slot])
    local last = redis.call('ZREVRANGE', key, 0, 0, 'WITHSCORES')[2]
    if last == 'inf' then redis.call('PERSIST', key) else expire(key, last) end
  end
end

-- Redis takes nothing back, so a user who may not do all of it is refused before anything is written. The first
-- of these is refused where memory is full, too, for which Redis looks before a script's first write only.
local NOWHERE = KEYS[1] .. ':none'
local TRIED = {
  {'SET', NOWHERE, '', 'XX'}, {'DEL', NOWHERE}, {'HDEL', NOWHERE, ''}, {'PERSIST', NOWHERE},
  {'PEXPIREAT', NOWHERE, 1}, {'ZADD', NOWHERE, 'XX', 0, ''}, {'ZREM', NOWHERE, ''},
  {'ZREMRANGEBYSCORE', NOWHERE, 0, 0}, {'ZREVRANGE', NOWHERE, 0, 0},
}
local is_tried = false

local function try_all()
  if is_tried then return end
  for _, command in ipairs(TRIED) do
    local answer = redis.pcall(unpack(command))
    if type(answer) == 'table' and answer.err then error(command[1] .. ': ' .. answer.err) end
  end
  is_tried = true
end

local function save(account)
  if not account.changed then return end
  try_all()
  local of, holds, fields = account.of, KEYS[account.slot + 1], {}
  if account.unknown then redis.call('DEL', holds) end
  of.seq = tostring(tonumber(of.seq) + 1)
  for name, value in pairs(of) do
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  redis.call('HSET', KEYS[account.slot], unpack(fields))
  if account.unleased and not of.lapse then redis.call('HDEL', KEYS[account.slot], 'lapse') end
  if account.stays then
    redis.call('HDEL', KEYS[account.slot], 'expires')
    redis.call('PERSIST', KEYS[account.slot])
    redis.call('PERSIST', holds)
  end
  for _, call in ipairs(account.dropped) do redis.call('HDEL', holds, call) end
  local added = false
  for call, kept in pairs(account.held) do
    redis.call('HSET', holds, call, kept)
    added = true
  end
  if account.lasts then expire(KEYS[account.slot], of.expires) end
  if added or account.lasts then expire(holds, of.expires) end
end

-- All accounts are one text: a client reads that in a fraction of the time that it takes to read lists.
local function shown(accounts)
  local all = {}
  for i, account in ipairs(accounts) do all[i] = account.of end
  return #all == 0 and '[]' or cjson.encode(all)
end

-- Whether the client has seen a newer state of an account than there is: Redis has evicted it.
local function lost(accounts)
  for i, account in ipairs(accounts) do
    local seen = asked.seen[i]
    if seen and seen > tonumber(account.of.seq) then return true end
  end
  return false
end
