-- Refuses a path that is no UTF-8: the application is given the path as text. Calls that take the lane do not come here: their paths
-- are known.

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
  if not is_text(headers:get(":path")) then
    refuse_path(handle, headers)
  end
end
