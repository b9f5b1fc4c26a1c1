//! What is sent, by name. No answer to any of it may be a success.

/// An attack: its name, and the bytes.
pub(crate) type Attack = (String, Vec<u8>);

/// Of HTTP itself, on a path below which runs are named: `/v1/runs/{id}/events`.
pub(crate) fn on_http(path: &str) -> Vec<Attack> {
    let here = path.replace("{id}", "r");
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes();
    let named = |id: &str| get(&path.replace("{id}", id));
    let with = |header: &str| format!("GET {here} HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n").into_bytes();
    let post = |headers: &str, body: &[u8]| {
        [format!("POST {here} HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n").as_bytes(), body].concat()
    };
    let chunks = [b"ffffffffffffffff\r\n".to_vec(), vec![b'x'; 1 << 20]].concat();
    list([
        ("nothing of HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03garbage\r\n\r\n".to_vec()),
        ("zeros", vec![0; 4096]),
        ("no version", format!("GET {here}\r\n\r\n").into_bytes()),
        ("a method of 1 MiB", [vec![b'A'; 1 << 20], b" / HTTP/1.1\r\n\r\n".to_vec()].concat()),
        ("an address of 1 MiB", named(&"a".repeat(1 << 20))),
        ("an id of 129", named(&"a".repeat(129))),
        ("NUL in an id", named("a%00b")),
        ("a line end in an id", named("a%0d%0aSet-Cookie:x")),
        ("a raw NUL in the address", b"GET /v1/runs/a\0b/events HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("the folder above", get("/v1/runs/../../etc/passwd")),
        ("the folder above, encoded", named("%2e%2e%2f%2e%2e%2fetc%2fpasswd")),
        ("another run's key", named("%7Br%7D:output:v")),
        ("a pattern", named("*")),
        ("a header of 1 MiB", with(&format!("X: {}", "x".repeat(1 << 20)))),
        ("10,000 headers", with(&(0..10_000).map(|n| format!("X-{n}: y\r\n")).collect::<String>())),
        ("a header with a NUL", with("X: a\0b")),
        ("a header without a colon", with("nonsense")),
        ("two lengths", with("Content-Length: 1\r\nContent-Length: 2")),
        ("a length below zero", with("Content-Length: -1")),
        ("a chunk of 16 EiB", post("Transfer-Encoding: chunked", &chunks)),
    ])
}

/// Of what viewers may ask the fan-out.
pub(crate) fn on_the_fanout() -> Vec<Attack> {
    let events = |query: &str| get(&format!("/v1/runs/r/events?{query}"), "");
    let lanes: String = (0..1_000_000).map(|lane| format!("v{lane}:1,")).collect();
    let ticket = b"POST /v1/tickets HTTP/1.1\r\nHost: x\r\nContent-Length: 1048576\r\n\r\n".to_vec();
    list([
        ("a cursor of a million lanes", events(&format!("after={lanes}"))),
        ("a cursor of 9,000 lanes", events(&format!("after={}", &lanes[..60_000]))),
        ("a cursor that is none", events("after=%00%0d%0a")),
        ("a number that overflows", events("after=v:99999999999999999999999")),
        ("a channel that is none", events("channels=output,%2e%2e%2f")),
        ("Last-Event-ID that is none", get("/v1/runs/r/events", "Last-Event-ID: \u{1}nonsense\r\n")),
        ("the folder above, in assets", get("/assets/..%2f..%2fCargo.toml", "")),
        ("a ticket for a body of 1 MiB", [ticket, vec![b'{'; 1 << 20]].concat()),
        ("a WebSocket without a key", get("/v1/runs/r/ws", "Connection: Upgrade\r\nUpgrade: websocket\r\n")),
    ])
}

/// Of the frames of a WebSocket (RFC 6455 §5).
pub(crate) fn on_websockets() -> Vec<Attack> {
    let key = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
               Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    let opened = |frames: &[u8]| [get("/v1/runs/r/ws", key), frames.to_vec()].concat();
    let masked = |head: [u8; 2], body: &[u8]| [&head[..], &[0; 4], body].concat();
    list([
        ("WebSocket: a frame without a mask", opened(&[0x81, 5, b'h', b'e', b'l', b'l', b'o'])),
        ("WebSocket: a frame of 8 EiB", opened(&[&[0x82, 0xff, 0x7f], &[255; 7][..], &[0; 4]].concat())),
        ("WebSocket: a reserved opcode", opened(&masked([0x83, 0x80], &[]))),
        ("WebSocket: reserved bits", opened(&masked([0xf1, 0x80], &[]))),
        ("WebSocket: a ping of 126 bytes", opened(&[&[0x89, 0xfe, 0, 126][..], &[0; 4 + 126]].concat())),
        ("WebSocket: text that is no UTF-8", opened(&masked([0x81, 0x82], &[0xff, 0xfe]))),
        ("WebSocket: the end of nothing", opened(&masked([0x80, 0x80], &[]))),
        ("WebSocket: 16 MiB of text", {
            let head = [0x81, 0xff, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
            opened(&[&head[..], &vec![b'x'; 16 << 20]].concat())
        }),
    ])
}

/// Of what readers may ask for history.
pub(crate) fn on_replay() -> Vec<Attack> {
    let lanes: String = (0..300).map(|variation| format!("v{variation},")).collect();
    let messages = |query: &str| get(&format!("/v1/runs/r/messages?{query}"), "");
    let delete = |path: &str| format!("DELETE {path} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes();
    list([
        ("a page of 10^30", messages(&format!("limit=1{}", "0".repeat(30)))),
        ("a page below zero", messages("limit=-1")),
        ("a search for 1 MiB", messages(&format!("search={}", "a".repeat(1 << 20)))),
        ("a search for 2 KiB", messages(&format!("search={}", "a".repeat(2 << 10)))),
        ("a cursor that is none", messages("after=%00")),
        ("300 variations", messages(&format!("variations={}", lanes.trim_end_matches(',')))),
        ("a parameter that is none", messages("%0d%0aX=1")),
        ("a replay without end", get("/v1/runs/r/replay?speed=1e-300", "")),
        ("a replay at once", get("/v1/runs/r/replay?speed=inf", "")),
        ("a replay at no number", get("/v1/runs/r/replay?speed=NaN", "")),
        ("a page token that is none", get("/v1/runs?page_token=%ff%00", "")),
        ("the archive above", get("/v1/archive/..%2f..%2fetc", "")),
        ("deleting the archive above", delete("/v1/archive/..%2f..")),
        ("deleting the archive above, raw", delete("/v1/archive/../..")),
        ("an export as what is none", get("/v1/runs/r/export?format=../../x", "")),
    ])
}

/// Of gRPC-Web and of gRPC's messages.
pub(crate) fn on_grpc() -> Vec<Attack> {
    let call = |method: &str, body: &[u8]| {
        let path = format!("/runcast.control.v1.{method}");
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/grpc-web+proto\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    };
    let message = |flags: u8, message: &[u8]| {
        [&[flags][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
    };
    let field = |number: u8, text: &[u8]| {
        let mut length = text.len();
        let mut bytes = vec![number << 3 | 2];
        while length > 127 {
            bytes.push((length & 127) as u8 | 128);
            length >>= 7;
        }
        bytes.push(length as u8);
        [&bytes, text].concat()
    };
    let get_run = |name: &[u8]| call("RunService/GetRun", &message(0, &field(1, name)));
    list([
        ("gRPC: no message", call("RunService/GetRun", &[])),
        ("gRPC: a message of 4 GiB", call("RunService/GetRun", &[0, 255, 255, 255, 255, 1, 2, 3])),
        ("gRPC: 2 MiB", call("RunService/GetRun", &message(0, &field(1, &vec![b'a'; 2 << 20])))),
        ("gRPC: no protobuf", call("RunService/GetRun", &message(0, &[255; 64]))),
        ("gRPC: a field that ends early", call("RunService/GetRun", &message(0, &[10, 200, 1, b'a']))),
        ("gRPC: groups in groups", call("RunService/GetRun", &message(0, &[0x0b; 100_000]))),
        ("gRPC: compressed by nothing known", call("RunService/GetRun", &message(1, b"\x1f\x8bnonsense"))),
        ("gRPC: text that is no UTF-8", get_run(&[b'r', 255, 254])),
        ("gRPC: a name with a NUL", get_run(b"runs/a\0b")),
        ("gRPC: a name with a line end", get_run(b"runs/a\r\nb")),
        ("gRPC: the folder above", get_run(b"runs/../x")),
        ("gRPC: a pattern", get_run(b"runs/*")),
        ("gRPC: a name of 64 KiB", get_run(&[b'a'; 64 << 10])),
        ("gRPC: a method that is none", call("RunService/Drop", &message(0, &[]))),
        ("gRPC: a run without a name", call("RunService/CreateRun", &message(0, &[]))),
        ("gRPC: a command without a run", call("CommandService/SendCommand", &message(0, &[]))),
        ("gRPC: a token that is none", call("TokenService/RevokeToken", &message(0, &field(1, b"")))),
    ])
}

/// Of what an agent may say to its sidecar, or a page in a browser that runs beside it.
pub(crate) fn on_the_sidecar() -> Vec<Attack> {
    let post = |path: &str, kind: &str, headers: &str, body: &[u8]| {
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        [head.as_bytes(), body].concat()
    };
    let messages = |body: &[u8]| post("/v1/messages", "application/x-ndjson", "", body);
    let (deep, text) = ("[".repeat(100_000), "text/plain");
    list([
        ("a page's script", post("/v1/output", text, "Origin: https://evil.example\r\n", b"x")),
        ("a page's form", post("/v1/output", text, "Sec-Fetch-Site: cross-site\r\n", b"x")),
        (
            "a name that points here",
            b"POST /v1/output HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 1\r\n\r\nx".to_vec(),
        ),
        ("a message that is no JSON", messages(b"{\"type\":\n")),
        ("a message without a type", messages(b"{}\n")),
        ("a type that is none", messages(b"{\"type\":\"control\",\"content\":\"x\"}\n")),
        ("JSON 100,000 deep", messages(format!("{{\"type\":\"output\",\"content\":{deep}").as_bytes())),
        ("a message of 9 MiB", {
            let content = "x".repeat(9 << 20);
            messages(format!("{{\"type\":\"output\",\"content\":\"{content}\"}}\n").as_bytes())
        }),
        ("a line of 20 MiB", messages(&vec![b'x'; 20 << 20])),
        ("zeros as messages", messages(&[0; 65536])),
        ("a status that is none", post("/v1/status", "application/json", "", b"{\"state\":\"exploded\"}")),
        ("an end that is none", post("/v1/finish", "application/json", "", b"{\"state\":\"running\"}")),
        ("an acknowledgement of nothing", post("/v1/commands/x%00y/ack", "application/json", "", b"{}")),
    ])
}

/// Of HTTP/2: resets as fast as they go (CVE-2023-44487), settings and headers without end (CVE-2024-27316).
pub(crate) fn on_http2() -> Vec<Attack> {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    };
    // :method GET, :scheme http, :path /, :authority x.
    let request = [0x82, 0x86, 0x84, 0x41, 0x01, b'x'];
    let resets = (0..20_000).flat_map(|number| {
        let stream = number * 2 + 1;
        [frame(1, 5, stream, &request), frame(3, 0, stream, &8_u32.to_be_bytes())].concat()
    });
    let settings = frame(4, 0, 0, &[]).repeat(50_000);
    let more = [frame(1, 0, 1, &request), frame(9, 0, 1, &[0x40, 1, b'a', 1, b'b']).repeat(50_000)].concat();
    list([
        ("HTTP/2: rapid reset", [preface.clone(), resets.collect()].concat()),
        ("HTTP/2: settings without end", [preface.clone(), settings].concat()),
        ("HTTP/2: headers without end", [preface.clone(), more].concat()),
        ("HTTP/2: a frame of 16 MiB", [preface.clone(), vec![255, 255, 255, 0, 0, 0, 0, 0, 1]].concat()),
        ("HTTP/2: a window that overflows", {
            [preface, frame(8, 0, 0, &0x7fff_ffff_u32.to_be_bytes()).repeat(2)].concat()
        }),
    ])
}

fn get(target: &str, headers: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").into_bytes()
}

fn list<const N: usize>(attacks: [(&str, Vec<u8>); N]) -> Vec<Attack> {
    attacks.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect()
}
