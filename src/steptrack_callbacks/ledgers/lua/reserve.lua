-- Reserve room on all accounts or on none.
local function fits(ask, want, of, cost, tokens, calls)
  if ask.max_calls and not less(plus(of['s:calls'] or '0', tostring(calls)), ask.max_calls) then return false end
  if ask.max_cost then
    local settled = of['s:cost_pico_usd'] or '0'
    if not less(settled, ask.max_cost) then return false end
    if less(ask.max_cost, plus(plus(settled, cost), want.cost)) then return false end
  end
  if not ask.max_tokens then return true end
  local settled = plus(of['s:input_tokens'] or '0', of['s:output_tokens'] or '0')
  return less(settled, ask.max_tokens) and not less(ask.max_tokens, plus(plus(settled, tokens), want.tokens))
end

local function judge(ask, account)
  local of, own = account.of, account.own
  if of.closed then return 'closed' end
  local cost, tokens, calls = of.cost, of.tokens, tonumber(of.calls)
  if own then cost, tokens, calls = minus(cost, own.cost), minus(tokens, own.tokens), calls - 1 end
  if fits(ask, calls > 0 and ask.beside or ask.alone, of, cost, tokens, calls) then return 'room' end
  return calls > 0 and fits(ask, ask.alone, of, '0', '0', 0) and 'busy' or 'full'
end

local GRAVITY = {room = 1, busy = 2, full = 3, crowded = 4, closed = 5}

local answer = begin()
if answer then return answer end
local accounts, own = {}, 0
for i, ask in ipairs(asked.asks) do
  ask.beside, ask.held = ask.beside or ask.alone, ask.held or ask.alone
  accounts[i] = load(ask.slot)
  accounts[i].own = holding(accounts[i], asked.id)
  if accounts[i].own then own = own + 1 end
end
if lost(accounts) then return {'lost', epoch} end

local till, verdict, opening = now + asked.lease_s, 'room', {}
if asked.grows then -- a call in flight holds more from here on, where it holds anything
  for i, ask in ipairs(asked.asks) do
    local of, own, held = accounts[i].of, accounts[i].own, ask.held
    if own then
      held.cost = less(held.cost, own.cost) and own.cost or held.cost
      held.tokens = less(held.tokens, own.tokens) and own.tokens or held.tokens
      if not fits_books(plus(minus(of.cost, own.cost), held.cost)) then return {'overflow', epoch, asked.keys[ask.slot], 'reserved cost'} end
      if not fits_books(plus(minus(of.tokens, own.tokens), held.tokens)) then return {'overflow', epoch, asked.keys[ask.slot], 'reserved tokens'} end
    end
  end
  for i, ask in ipairs(asked.asks) do
    local account = accounts[i]
    if account.own then
      give_back(account, asked.id, account.own)
      account.dropped[#account.dropped] = nil -- it is written over
      put_hold(account, asked.id, ask.held, till)
    end
    save(account)
  end
  return {'room', epoch, shown(accounts)}
end
if own > 0 and own == #accounts then -- granted before; its lease starts over
  for _, account in ipairs(accounts) do
    account.held[asked.id] = time_text(till) .. ' ' .. account.own.cost .. ' ' .. account.own.tokens
    if account.changed then save(account) else redis.call('HSET', KEYS[account.slot + 1], asked.id, account.held[asked.id]) end
  end
  return {'room', epoch, shown(accounts)}
end

for i, ask in ipairs(asked.asks) do
  local reason = judge(ask, accounts[i])
  if ask.most_open and not accounts[i].of.group and not accounts[i].of.closed then
    local open = KEYS[ask.group_slot + 1]
    opening[open] = (opening[open] or redis.call('ZCOUNT', open, '(' .. time_text(now), '+inf')) + 1
    if opening[open] > ask.most_open then reason = 'crowded' end
  end
  if GRAVITY[reason] > GRAVITY[verdict] then verdict = reason end
end
if verdict == 'room' then
  for i, ask in ipairs(asked.asks) do
    if not fits_books(plus(accounts[i].of.cost, ask.held.cost)) then return {'overflow', epoch, asked.keys[ask.slot], 'reserved cost'} end
    if not fits_books(plus(accounts[i].of.tokens, ask.held.tokens)) then return {'overflow', epoch, asked.keys[ask.slot], 'reserved tokens'} end
  end
  for i, ask in ipairs(asked.asks) do
    if ask.group_slot then -- a key of the wrong type must fail before anything is written
      redis.call('ZCARD', KEYS[ask.group_slot])
      redis.call('ZCARD', KEYS[ask.group_slot + 1])
    end
  end
end
for i, ask in ipairs(asked.asks) do
  local account = accounts[i]
  local joins = false
  if verdict == 'room' then
    if account.own then
      give_back(account, asked.id, account.own)
      account.dropped[#account.dropped] = nil -- it is written over
    end
    put_hold(account, asked.id, ask.held, till)
    last_until(account, ask.expires)
    if ask.group_slot and (not account.of.group or account.lasts) then
      account.of.group = account.of.group or ask.group
      joins = account.of.group == ask.group
    end
  end
  save(account)
  account.unknown = account.unknown and not account.changed
  if joins then join(account, KEYS[ask.group_slot], KEYS[ask.group_slot + 1]) end
end
return {verdict, epoch, shown(accounts)}
