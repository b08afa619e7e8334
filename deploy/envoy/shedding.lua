-- Refuses in Envoy what the application would refuse: it costs less than half there, and many refusals at once would leave no time
-- for those who are let in.
--
-- The application alone decides who is refused, and why (services/ingress/admitting.py, quotas.py). When it gets crowded it
-- says with each reply how many more calls it has room for from this caller, and which of them it has seen (services/ingress/
-- protocols/gates.py). No more than that go through, and one now and then; the others hear what the application told the
-- last that it refused. What is let through beyond the room is how a caller learns of room that others have made.
--
-- The header: to the application "GATE CALL SHED" (a name for the credential, the call's number at that gate, calls
-- refused here since the last that went through); from it "GATE CALL ROOM" (the newest call seen; room, or - for plenty).

local HEADER = "x-headrace-gate"
-- Calls that hold a place or count against a quota.
local PATHS = {
  ["/inference.GRPCInferenceService/ModelInfer"] = true,
  ["/headrace.api.inference.v1.InferenceService/Predict"] = true,
}
-- What is repeated of a refusal.
local TOLD = { "grpc-status", "grpc-message", "grpc-status-details-bin", "grpc-retry-pushback-ms" }
-- So often (ms) one more than there is room for goes through: the application may have made room since it told.
local ASK = 20
-- What was heard so long ago (ms) counts no more: the replies that would have told of room may have found nobody.
local FORGET = 1000
-- Credentials at most. More come only from who makes up keys; then all begin anew.
local MOST = 10000

local gates, named, count, worker

local function begin()
  gates, named, count = {}, {}, 0
  -- Each of Envoy's threads has a script, and gates, of its own.
  worker = string.match(tostring(gates), "%x+$")
end

begin()

local function gate_of(credential)
  local gate = gates[credential]
  if gate == nil then
    if count >= MOST then
      begin()
    end
    count = count + 1
    gate = { name = worker .. "." .. count, passed = 0, seen = 0, shed = 0, heard = 0, asked = 0 }
    gates[credential], named[gate.name] = gate, gate
  end
  return gate
end

local function full(gate, now)
  if gate.room == nil or gate.told == nil then
    return false
  end
  if now - gate.heard > FORGET then
    gate.room = nil
    return false
  end
  if gate.passed - gate.seen < gate.room then
    return false
  end
  if now - gate.asked < ASK then
    return true
  end
  gate.asked = now
  return false
end

function envoy_on_request(handle)
  local headers = handle:headers()
  headers:remove(HEADER)
  if not PATHS[headers:get(":path")] or headers:get("content-type") ~= "application/grpc" then
    return
  end
  local credential = headers:get("authorization") or headers:get("x-api-key")
  if credential == nil then
    return
  end
  local gate = gate_of(credential)
  if full(gate, handle:timestamp()) then
    gate.shed = gate.shed + 1
    -- For the access log (services/ingress/envoy.py).
    handle:streamInfo():dynamicMetadata():set("envoy.filters.http.lua", "shed", true)
    gate.told["x-request-id"] = headers:get("x-request-id")
    handle:respond(gate.told, "")
    return
  end
  gate.passed = gate.passed + 1
  headers:add(HEADER, gate.name .. " " .. gate.passed .. " " .. gate.shed)
  gate.shed = 0
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local header = headers:get(HEADER)
  if header == nil then
    return
  end
  headers:remove(HEADER)
  local name, seen, room = string.match(header, "^(%S+) (%d+) (%S+)$")
  local gate = named[name]
  if gate == nil then
    return
  end
  gate.seen, gate.room, gate.heard = tonumber(seen), tonumber(room), handle:timestamp()
  if gate.room == nil then
    gate.told = nil
  end
  if headers:get("grpc-status") == "8" then
    local told = { [":status"] = "200", ["content-type"] = "application/grpc" }
    for _, field in ipairs(TOLD) do
      told[field] = headers:get(field)
    end
    gate.told = told
  end
end
