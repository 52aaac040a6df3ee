-- One exchange of a replica with the board; see board.py for what must hold.
--   KEYS  leases: hash, replica -> [number, at_ms, {endpoint: permits held}]
--         texts:  hash, replica -> what it says to the others
--         board:  hash, born_ms and the server that it lives on
--   ARGV  life_ms, replica, number, text, claims as [[endpoint, keep, want, cap], ...],
--         the time in ms; empty: the server's own
-- Returns now_ms, 1 where nothing is given away at present, the permits in the order of the claims,
-- and the texts as replica, text, replica, text, ...
local leases, texts, board = KEYS[1], KEYS[2], KEYS[3]
local life, replica, number = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local now = tonumber(ARGV[6])
if not now then
    local time = redis.call('TIME')
    now = time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The silent are forgotten, and the living added up.
local awake, own, others = false, nil, {}
local stored = redis.call('HGETALL', leases)
for i = 1, #stored, 2 do
    local lease = cjson.decode(stored[i + 1])
    if now - lease[2] >= life then
        redis.call('HDEL', leases, stored[i])
        redis.call('HDEL', texts, stored[i])
    else
        awake = true
        if stored[i] == replica then
            own = lease
        else
            for endpoint, held in pairs(lease[3]) do
                others[endpoint] = (others[endpoint] or 0) + held
            end
        end
    end
end

-- A board that was asleep, or that moved with whatever had been copied to another server, may not
-- know of every permit that is out.
local told, server = pcall(redis.call, 'INFO', 'server')
server = told and type(server) == 'string' and string.match(server, 'run_id:(%x+)') or 'untold'
local born = tonumber(redis.call('HGET', board, 'born') or '')
if not awake or not born or redis.call('HGET', board, 'server') ~= server then
    born = now
    redis.call('HSET', board, 'born', now, 'server', server)
end
local cautious = now - born < life

local permits, held = {}, {}
local late = own and number <= own[1]
for i, claim in ipairs(cjson.decode(ARGV[5])) do
    local endpoint, keep, want, cap = claim[1], claim[2], claim[3], claim[4]
    if late then
        permits[i] = own[3][endpoint] or 0
    elseif cautious then
        permits[i] = keep
    else
        permits[i] = math.max(keep, math.min(want, cap - (others[endpoint] or 0)))
    end
    if permits[i] > 0 then
        held[endpoint] = permits[i]
    end
end
if not late then
    redis.call('HSET', leases, replica, cjson.encode({number, now, held}))
    redis.call('HSET', texts, replica, ARGV[4])
end
for i = 1, 3 do
    redis.call('PEXPIRE', KEYS[i], life * 10)
end
return {now, cautious and 1 or 0, permits, redis.call('HGETALL', texts)}
