-- Asks Cloakroom about a request: may it pass, and with which headers? For HAProxy 2.5 and newer.

local verify = "http://127.0.0.1:9081/verify/forwarded"
local host = "127.0.0.1:8000"   -- ! the frontend's host, as in its url; never the client's word
local token = nil               -- verify.token, where it is set

-- What of the client's request the answer depends on.
local asks = {
    "cookie", "origin", "accept", "upgrade", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest", "accept-language",
    "x-cloakroom", "x-cloakroom-passive", "x-forwarded-for", "x-forwarded-proto",
}

-- What the service gets to see: each of these is Cloakroom's word, or not there.
local identity = { "authorization", "x-auth-user", "x-auth-provider", "x-auth-email", "x-auth-session", "cookie" }

-- Of one connection, or made anew.
local skipped = { ["content-length"] = true, ["transfer-encoding"] = true, connection = true, date = true }

local function refuse(txn, status, headers, body)
    local reply = txn:reply({ status = status })
    for name, values in pairs(headers) do
        if not skipped[name] then
            for _, value in pairs(values) do
                reply:add_header(name, value)
            end
        end
    end
    reply:set_body(body)
    txn:done(reply)
end

core.register_action("cloakroom", { "http-req" }, function(txn)
    local given = txn.http:req_get_headers()
    local headers = {
        ["x-forwarded-method"] = { txn.f:method() },
        ["x-forwarded-uri"] = { txn.f:url() },   -- ! as it was sent, which is what HAProxy sends on
        ["x-forwarded-host"] = { host },
    }
    for _, name in ipairs(asks) do
        if given[name] then
            headers[name] = {}
            for _, value in pairs(given[name]) do
                table.insert(headers[name], value)
            end
        end
    end
    if token then
        headers["x-cloakroom-verify"] = { token }
    end

    local answer = core.httpclient():get({ url = verify, headers = headers, timeout = 30000 })
    if not answer or not answer.status or answer.status < 200 then
        refuse(txn, 503, { ["content-type"] = { "text/plain" }, ["cache-control"] = { "no-store" } }, "The session service does not answer.\n")
        return
    end
    if answer.status ~= 200 then
        refuse(txn, answer.status, answer.headers, answer.body or "")
        return
    end
    for _, name in ipairs(identity) do
        txn.http:req_del_header(name)
        local value = answer.headers[name] and answer.headers[name][0]
        if value and value ~= "" then
            txn.http:req_set_header(name, value)
        end
    end
end)
