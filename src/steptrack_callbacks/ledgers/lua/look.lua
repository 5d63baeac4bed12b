-- Show accounts as they are now.
local answer = begin()
if answer then return answer end
local accounts = {}
for i, slot in ipairs(asked.slots) do accounts[i] = load(slot) end
if lost(accounts) then return {'lost', epoch} end
for _, account in ipairs(accounts) do save(account) end
return {'shown', epoch, shown(accounts)}
