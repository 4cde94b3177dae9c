-- Signalling for the test's Jitsi: stock Prosody modules, and Jitsi's own for lobbies where they are there.
-- Filled in by backend.py.
local lobbies = $lobbies
if lobbies then
    plugin_paths = { "$plugins" }
end
run_as_root = true
daemonize = false
pidfile = "$directory/prosody.pid"
data_path = "$directory/prosody"
log = { info = "$directory/prosody.log" }

interfaces = { "$address" }
c2s_ports = { $c2s_port }
s2s_ports = {}
component_ports = {}
http_interfaces = { "$address" }
http_ports = { $http_port }
https_ports = {}
http_default_host = "meet.test"

modules_enabled = { "saslauth", "roster", "disco", "ping", "websocket", "smacks", "posix" }
modules_disabled = { "s2s", "tls", "offline", "register" }

c2s_require_encryption = false
allow_unencrypted_plain_auth = true
consider_websocket_secure = true
smacks_hibernation_time = 60
storage = "internal"

VirtualHost "meet.test"
    authentication = "anonymous"
    main_muc = "conference.meet.test"
    lobby_muc = "lobby.meet.test"
    if lobbies then
        modules_enabled = { "muc_lobby_rooms" }
    end

VirtualHost "auth.meet.test"
    -- A bridge that died leaves its room at once, not after the hibernation time.
    modules_disabled = { "smacks" }
    authentication = "internal_plain"

Component "conference.meet.test" "muc"
    admins = { "focus@auth.meet.test" }
    muc_room_locking = false
    muc_room_default_public_jids = true
    storage = "memory"

if lobbies then
    Component "lobby.meet.test" "muc"
        restrict_room_creation = true
        muc_room_locking = false
        muc_room_default_public_jids = true
        storage = "memory"
end

Component "internal.auth.meet.test" "muc"
    admins = { "focus@auth.meet.test", "jvb@auth.meet.test" }
    muc_room_locking = false
    muc_room_default_public_jids = true
    storage = "memory"
