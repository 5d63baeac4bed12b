-- Put back what the server has lost and the client still knows. What was charged since stays: of what each
-- client knows only the part is added by which it knows more than the server or another client had.
local answer = begin()
if answer then return answer end
local accounts = {}
for i, known in ipairs(asked.known) do
  local account = load(known.slot)
  local of = account.of
  accounts[i] = account
  if not asked.evicted or known.seq > tonumber(of.seq) then
    note_base(account)
    for name, sum in pairs(known.settled) do
      local base = of['b:' .. name] or '0'
      if less(base, sum) then
        local total = plus(of['s:' .. name] or '0', minus(sum, base))
        if not fits_books(total) then return {'overflow', epoch, asked.keys[account.slot], name} end
        of['s:' .. name], of['b:' .. name] = total, sum
      end
    end
    if account.unknown then
      of.opened = known.opened
      last_until(account, known.expires)
    end
    if known.closed then of.closed = '1' end
    if not of.group and known.group then of.group = known.group end
    of.seq = tostring(math.max(tonumber(of.seq), known.seq))
    of.lapsed = tostring(math.max(tonumber(of.lapsed), known.lapsed))
    for _, hold in ipairs(known.holds) do
      if not holding(account, hold.id) then put_hold(account, hold.id, hold, now + hold.lease_s) end
    end
    account.changed = true
  end
end
for _, account in ipairs(accounts) do
  save(account)
  account.unknown = false
  if account.of.group and account.changed then
    if account.of.closed then redis.call('ZREM', asked.open .. account.of.group, asked.keys[account.slot]) end
    join(account, asked.members .. account.of.group, asked.open .. account.of.group)
  end
end
return {'shown', epoch, shown(accounts)}
