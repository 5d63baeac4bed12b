-- Charge: everything is reckoned before anything is written.
local answer = begin()
if answer then return answer end
local accounts, at = {}, {}
local function get(slot)
  if not at[slot] then
    at[slot] = load(slot)
    accounts[#accounts + 1] = at[slot]
  end
  return at[slot]
end

for _, slot in ipairs(asked.slots) do get(slot) end
if lost(accounts) then return {'lost', epoch} end
local charged, returned = {}, {}
for _, entry in ipairs(asked.entries) do
  if not returned[entry.id] then
    returned[entry.id] = true
    for _, slot in ipairs(asked.slots) do
      local hold = holding(get(slot), entry.id)
      if hold then give_back(get(slot), entry.id, hold) end
    end
  end
  if entry.mark and not charged[entry.mark] and not redis.call('GET', KEYS[entry.mark]) then
    charged[entry.mark] = entry.kept
    for _, key in ipairs(entry.keys) do
      local account = get(key.slot)
      note_base(account)
      for name, amount in pairs(entry.amounts) do
        local total = plus(account.of['s:' .. name] or '0', amount)
        if not fits_books(total) then return {'overflow', epoch, asked.keys[account.slot], name} end
        account.of['s:' .. name] = total
      end
      if account.unknown and not account.changed then last_until(account, key.expires) end
      account.changed = true
    end
  end
end
for _, account in ipairs(accounts) do save(account) end
for mark, kept in pairs(charged) do redis.call('SET', KEYS[mark], kept, 'EX', asked.kept_s) end
return {'charged', epoch, shown(accounts)}
