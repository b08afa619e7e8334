-- Refuses in Envoy what the application would refuse: it costs less than half there, and many refusals at once would leave no time
-- for those who are let in.
--
-- The application alone decides who is refused, and why (services/ingress/admission/admission_control.py, quotas.py). When it gets crowded it
-- says with each reply how many more calls it has room for from this caller, and which of them it has seen (services/ingress/
-- protocols/grpc/unary.py). No more than that go through, and one now and then; the others hear what the application told the
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
-- Longer ones the application refuses.
local LONGEST = 8200
-- Of a long credential (a token) its end is kept: a signature, which nobody knows who has not the whole.
local KEPT = 96

local gates, named, count, worker

local function begin()
  gates, named, count = {}, {}, 0
  -- Each of Envoy's threads has a script, and gates, of its own.
  worker = string.match(tostring(gates), "%x+$")
end

begin()

local function gate_of(credential)
  if #credential > KEPT then
    credential = #credential .. ":" .. string.sub(credential, -KEPT)
  end
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

-- Bytes of a character behind its first, and the bounds of the first of these (RFC 3629); nil: no character begins so.
local function rest_of(first)
  if first < 0x80 then return 0, 0x80, 0xBF end
  if first < 0xC2 or first > 0xF4 then return nil end
  if first < 0xE0 then return 1, 0x80, 0xBF end
  if first < 0xF0 then return 2, first == 0xE0 and 0xA0 or 0x80, first == 0xED and 0x9F or 0xBF end
  return 3, first == 0xF0 and 0x90 or 0x80, first == 0xF4 and 0x8F or 0xBF
end

local function is_utf8(text)
  local at = 1
  while at <= #text do
    local more, low, high = rest_of(string.byte(text, at))
    if more == nil then
      return false
    end
    for behind = 1, more do
      local byte = string.byte(text, at + behind)
      if byte == nil or byte < low or byte > high then
        return false
      end
      low, high = 0x80, 0xBF
    end
    at = at + more + 1
  end
  return true
end

local function of_hex(digits)
  return string.char(tonumber(digits, 16))
end

-- The application is given the path as text.
local function is_text(path)
  if not string.find(path, "%%[89a-fA-F]") and not string.find(path, "[\128-\255]") then
    return true
  end
  return is_utf8((string.gsub(string.match(path, "^[^?]*"), "%%(%x%x)", of_hex)))
end

local NO_TEXT = "the path is not UTF-8"

local function refuse_path(handle, headers)
  local id = headers:get("x-request-id")
  if string.find(headers:get("content-type") or "", "^application/grpc") then
    local status = { [":status"] = "200", ["content-type"] = "application/grpc", ["grpc-status"] = "3" }
    status["grpc-message"], status["x-request-id"] = NO_TEXT, id
    handle:respond(status, "")
    return
  end
  local body = '{"error": "' .. NO_TEXT .. '", "code": "INVALID_ARGUMENT", "reason": "MALFORMED_REQUEST", "metadata": {"field": "path"}}'
  handle:respond({ [":status"] = "400", ["content-type"] = "application/json", ["x-request-id"] = id }, body)
end

function envoy_on_request(handle)
  local headers = handle:headers()
  headers:remove(HEADER)
  if not is_text(headers:get(":path")) then
    refuse_path(handle, headers)
    return
  end
  if not PATHS[headers:get(":path")] or headers:get("content-type") ~= "application/grpc" then
    return
  end
  local credential = headers:get("authorization") or headers:get("x-api-key")
  if credential == nil or #credential > LONGEST then
    return
  end
  local gate = gate_of(credential)
  if full(gate, handle:timestamp()) then
    gate.shed = gate.shed + 1
    -- For the access log (services/ingress/envoy/configuration.py).
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
