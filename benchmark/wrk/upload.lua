-- A multipart upload of one file, for wrk:
--
--   wrk -t2 -c64 -d10 -s benchmark/wrk/upload.lua http://127.0.0.1:8088/classify -- image images/cat.jpg
--
-- The arguments are the form's field and the file. The part has no Content-Type and no line break follows the
-- last boundary: a server has to take that too. Prints one line of JSON at the end, times in milliseconds.
--
-- With the answer that is to come, index and score of the first prediction and the score's tolerance, every body
-- is checked. Several groups may follow each other; then each of wrk's threads uploads one of the files, so that
-- an answer that went to the wrong client is seen:
--
--   wrk -t2 … -- image images/cat.jpg 281 0.41 0.01 images/coffee.png 967 0.83 0.01
--
-- `wrong` are answers with status 200 and another body, `checked` those that were looked at.

local boundary = "----SnapServeBoundary"
local group_size = 4

local threads = {}

function setup(thread)
  thread:set("number", #threads)
  table.insert(threads, thread)
end

function init(arguments)
  wrong, checked, example = 0, 0, ""
  local groups = math.max(1, math.floor((#arguments - 1) / group_size))
  local first = 2 + (number % groups) * group_size
  local field, path = arguments[1], arguments[first]
  if arguments[first + 1] then
    check(tonumber(arguments[first + 1]), tonumber(arguments[first + 2]), tonumber(arguments[first + 3]))
  end
  local file = assert(io.open(path, "rb"))
  local picture = file:read("*a")
  file:close()
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "multipart/form-data; boundary=" .. boundary
  wrk.body = "--" .. boundary .. "\r\n"
    .. 'Content-Disposition: form-data; name="' .. field .. '"; filename="picture"\r\n\r\n'
    .. picture .. "\r\n--" .. boundary .. "--"
end

-- Defines `response` only when it is needed: wrk parses and copies headers and bodies for it.
function check(index, score, tolerance)
  function response(status, headers, body)
    if status ~= 200 then
      return
    end
    checked = checked + 1
    local seen_index = tonumber(body:match('"index"%s*:%s*(%d+)'))
    local seen_score = tonumber(body:match('"score"%s*:%s*([%d%.eE+-]+)'))
    if seen_index ~= index or not seen_score or math.abs(seen_score - score) > tolerance then
      wrong = wrong + 1
      if wrong == 1 then
        example = body:sub(1, 200)
      end
    end
  end
end

local function quoted(text)
  return '"' .. text:gsub('[%c"\\\128-\255]', function(c) return string.format("\\u%04x", c:byte()) end) .. '"'
end

function done(summary, latency, requests)
  local errors, wrong, checked, example = summary.errors, 0, 0, ""
  for _, thread in ipairs(threads) do
    wrong, checked = wrong + thread:get("wrong"), checked + thread:get("checked")
    example = example == "" and thread:get("example") or example
  end
  io.write(string.format(
    '{"requests": %d, "seconds": %.3f, "non_2xx": %d, "socket_errors": %d, "checked": %d, "wrong": %d, '
      .. '"wrong_example": %s, "p50": %.3f, "p90": %.3f, "p99": %.3f, "p999": %.3f}\n',
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout, checked, wrong, quoted(example),
    latency:percentile(50) / 1e3, latency:percentile(90) / 1e3, latency:percentile(99) / 1e3,
    latency:percentile(99.9) / 1e3))
end
