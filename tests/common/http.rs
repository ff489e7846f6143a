//! A small HTTP/1.1 client that shows everything: one connection for each request.
#![allow(dead_code, clippy::unwrap_used, missing_docs, unreachable_pub)]

use std::fmt::Write as _;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| &**value)
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A request under construction.
#[derive(Debug, Clone)]
pub struct Ask {
    to: SocketAddr,
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

pub fn ask(to: SocketAddr, method: &str, target: &str) -> Ask {
    let (method, target) = (method.to_owned(), target.to_owned());
    Ask { to, method, target, headers: Vec::new(), body: Vec::new() }
}

impl Ask {
    pub fn header(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(key, _)| key.eq_ignore_ascii_case(name))
    }

    /// Sends the request, and returns the connection, from which the answer is read.
    pub async fn open(&self) -> Connection {
        self.on(TcpStream::connect(self.to).await.unwrap()).await
    }

    /// The same on an open connection.
    pub async fn on(&self, mut stream: TcpStream) -> Connection {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !self.has("host") {
            head += "host: localhost\r\n";
        }
        let has_length = self.has("content-length") || self.has("transfer-encoding");
        if !has_length && (!self.body.is_empty() || self.method == "POST") {
            let _ = write!(head, "content-length: {}\r\n", self.body.len());
        }
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head += if self.has("connection") { "\r\n" } else { "connection: close\r\n\r\n" };
        // The daemon may answer and close before it has read everything.
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.write_all(&self.body).await;
        Connection { stream, buffer: Vec::new(), at: 0, left: 0 }
    }

    pub async fn send(&self) -> Answer {
        let mut connection = self.open().await;
        let (status, headers) = connection.head().await;
        let mut answer = Answer { status, headers, body: Vec::new() };
        if self.method == "HEAD" || status == 204 || status == 304 {
            assert_eq!(connection.read().await, 0, "a body where there is none");
            return answer;
        }
        if answer.header("transfer-encoding").is_some() {
            while let Some(piece) = connection.chunk().await {
                answer.body.extend(piece);
            }
        } else {
            let length: usize = answer.header("content-length").unwrap().parse().unwrap();
            answer.body = connection.exactly(length).await.unwrap();
        }
        answer
    }

    /// Sends the request to a daemon that may be killed meanwhile. Returns the answer if all of it
    /// arrives.
    pub async fn try_send(&self) -> Option<Answer> {
        let mut connection = self.on(TcpStream::connect(self.to).await.ok()?).await;
        let (status, headers) = connection.try_head().await?;
        let mut answer = Answer { status, headers, body: Vec::new() };
        let length: usize = answer.header("content-length")?.parse().unwrap();
        answer.body = connection.exactly(length).await?;
        Some(answer)
    }

    /// Sends the request to a daemon that may be killed meanwhile, and reads the answer as events.
    /// Returns `None` if there is no daemon, or the status is another than 200.
    pub async fn try_events(&self) -> Option<Events> {
        let mut connection = self.on(TcpStream::connect(self.to).await.ok()?).await;
        let (status, headers) = connection.try_head().await.filter(|(status, _)| *status == 200)?;
        let answer = Answer { status, headers, body: Vec::new() };
        Some(Events { answer, connection, text: Vec::new(), id: None })
    }

    /// Sends the request, and reads the answer as events.
    pub async fn events(&self) -> Events {
        let mut connection = self.open().await;
        let (status, headers) = connection.head().await;
        let answer = Answer { status, headers, body: Vec::new() };
        if status != 200 {
            let body = connection.rest().await;
            panic!("{answer:?} {}", String::from_utf8_lossy(&body));
        }
        assert_eq!(answer.header("content-type"), Some("text/event-stream"));
        Events { answer, connection, text: Vec::new(), id: None }
    }
}

pub struct Connection {
    pub stream: TcpStream,
    buffer: Vec<u8>,
    at: usize,
    // Rest of a chunk that is read in pieces, bytes.
    left: usize,
}

impl Connection {
    async fn read(&mut self) -> usize {
        if self.at > 1 << 16 {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        self.stream.read_buf(&mut self.buffer).await.unwrap_or(0)
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            let rest = &self.buffer[self.at..];
            if let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
                let line = String::from_utf8(rest[..end].to_vec()).unwrap();
                self.at += end + 2;
                return Some(line);
            }
            if self.read().await == 0 {
                return None;
            }
        }
    }

    pub async fn exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.buffer.len() - self.at < length {
            if self.read().await == 0 {
                return None;
            }
        }
        let found = self.buffer[self.at..self.at + length].to_vec();
        self.at += length;
        Some(found)
    }

    /// Reads an answer whose length the daemon knew.
    pub async fn answer(&mut self) -> Answer {
        let (status, headers) = self.head().await;
        let mut answer = Answer { status, headers, body: Vec::new() };
        let length: usize = answer.header("content-length").unwrap().parse().unwrap();
        answer.body = self.exactly(length).await.unwrap();
        answer
    }

    pub async fn head(&mut self) -> (u16, Vec<(String, String)>) {
        self.try_head().await.expect("no answer, or half a head")
    }

    // Returns `None` if the connection ends before.
    async fn try_head(&mut self) -> Option<(u16, Vec<(String, String)>)> {
        let mut status = 100;
        let mut headers = Vec::new();
        while status == 100 {
            let line = self.line().await?;
            status = line.split(' ').nth(1).unwrap().parse().unwrap();
            loop {
                let line = self.line().await?;
                if line.is_empty() {
                    break;
                }
                let (name, value) = line.split_once(':').unwrap();
                headers.push((name.to_owned(), value.trim().to_owned()));
            }
        }
        Some((status, headers))
    }

    // Reads a part of a chunk. Returns `None` at the end.
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        if self.left == 0 {
            self.left = usize::from_str_radix(&self.line().await?, 16).unwrap();
            if self.left == 0 {
                return None;
            }
        }
        while self.buffer.len() == self.at {
            if self.read().await == 0 {
                return None;
            }
        }
        let length = self.left.min(self.buffer.len() - self.at);
        let piece = self.exactly(length).await?;
        self.left -= length;
        if self.left == 0 {
            assert_eq!(self.line().await?, "");
        }
        Some(piece)
    }

    async fn rest(&mut self) -> Vec<u8> {
        while self.read().await > 0 {}
        self.buffer[self.at..].to_vec()
    }
}

/// The lines between two empty lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Block {
    pub event: Option<String>,
    pub data: Option<String>,
    pub id: Option<String>,
    pub retry: Option<u64>,
    pub comments: usize,
}

impl Block {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.data.as_deref().unwrap()).unwrap()
    }

    pub fn is(&self, event: &str) -> bool {
        self.event.as_deref() == Some(event)
    }
}

/// A stream of events.
pub struct Events {
    pub answer: Answer,
    connection: Connection,
    text: Vec<u8>,
    /// The last id, as a browser keeps it.
    pub id: Option<String>,
}

impl Events {
    /// Reads the next block. Returns `None` at the end.
    pub async fn block(&mut self) -> Option<Block> {
        let mut from = 0;
        loop {
            let rest = &self.text[from..];
            if let Some(end) = rest.windows(2).position(|two| two == b"\n\n") {
                let text: Vec<u8> = self.text.drain(..from + end + 2).collect();
                let block = parse(std::str::from_utf8(&text).unwrap());
                self.id = block.id.clone().or(self.id.take());
                return Some(block);
            }
            from = self.text.len().saturating_sub(1);
            self.text.extend(self.connection.chunk().await?);
        }
    }

    /// Reads up to the next block that is an event.
    pub async fn event(&mut self) -> Option<Block> {
        loop {
            let block = self.block().await?;
            if block.data.is_some() {
                return Some(block);
            }
        }
    }
}

fn parse(text: &str) -> Block {
    let mut block = Block::default();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let (field, value) = line.split_once(':').unwrap();
        let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
        match field {
            "" => block.comments += 1,
            "event" => block.event = Some(value),
            "id" => block.id = Some(value),
            "retry" => block.retry = Some(value.parse().unwrap()),
            "data" => {
                assert_eq!(block.data, None, "one line of data");
                block.data = Some(value);
            }
            other => panic!("a field {other:?}"),
        }
    }
    block
}
