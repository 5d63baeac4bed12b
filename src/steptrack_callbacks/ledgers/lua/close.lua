-- Close accounts, unknown ones too.
local answer = begin()
if answer then return answer end
local accounts = {}
for i, slot in ipairs(asked.slots) do accounts[i] = load(slot) end
if lost(accounts) then return {'lost', epoch} end
for _, account in ipairs(accounts) do
  if not account.of.closed then
    if account.unknown then last_until(account, time_text(now + asked.remembered_s)) end
    account.of.closed = '1'
    account.changed = true
    save(account)
    if account.of.group then redis.call('ZREM', asked.open .. account.of.group, asked.keys[account.slot]) end
  end
end
return {'shown', epoch, shown(accounts)}
