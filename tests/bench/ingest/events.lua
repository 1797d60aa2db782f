-- wrk's part of `fbt bench online`: posts batches of events, whose ids are new in every request.
--   wrk … -s events.lua URL -- FILE FIRST

local bodies, number = {}, 0

function init(arguments)
  wrk.headers["Content-Type"] = "application/json"
  for line in io.lines(arguments[1]) do
    bodies[#bodies + 1] = line
  end
  number = tonumber(arguments[2])
end

function request()
  number = number + 1
  local body = bodies[number % #bodies + 1]
  return wrk.format("POST", nil, nil, (body:gsub("~~", string.format("%x", number))))
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"seconds":%f,"refused":%d,"broken":%d,"p50_ms":%f,"p99_ms":%f}\n',
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
