//! As much HTTP/1.1 as a test needs to ask KMS, and to be it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use test_kit::Result;

/// How long one side waits for the other.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Where a request keeps by which scheme it came; no header can have this name.
const SCHEME: &str = ":scheme";

/// What was asked.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `POST`, mostly.
    pub method: String,
    /// The path, with its query.
    pub path: String,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// JSON, mostly.
    pub body: Vec<u8>,
}

/// What is answered.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// JSON, mostly.
    pub body: Vec<u8>,
}

impl Request {
    /// The value of a header, or nothing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// The same, as one that came by `http` or `https`.
    #[must_use]
    pub(crate) fn of_scheme(mut self, scheme: &str) -> Self {
        self.headers.push((SCHEME.to_owned(), scheme.to_owned()));
        self
    }

    /// The server's address as whoever asks knows it: `http://127.0.0.1:PORT`.
    #[must_use]
    pub(crate) fn base(&self) -> String {
        format!("{}://{}", self.header(SCHEME), self.header("host"))
    }

    /// The action that is asked of KMS, such as `Decrypt`.
    #[must_use]
    pub fn action(&self) -> &str {
        self.header("x-amz-target").rsplit('.').next().unwrap_or_default()
    }

    /// Reads one from a client; nothing where it hung up before it asked.
    pub fn read(stream: &TcpStream) -> Result<Option<Self>> {
        stream.set_read_timeout(Some(PATIENCE))?;
        Self::read_from(stream)
    }

    /// The same from anything.
    pub fn read_from(stream: impl Read) -> Result<Option<Self>> {
        let mut reader = BufReader::new(stream);
        let (first, headers) = head(&mut reader)?;
        let mut words = first.split(' ');
        let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(None) };
        let mut request =
            Self { method: method.into(), path: path.into(), headers, body: Vec::new() };
        let len = request.header("content-length").parse().unwrap_or(0);
        request.body = vec![0; len];
        reader.read_exact(&mut request.body)?;
        Ok(Some(request))
    }

    /// Asks the server at `address`.
    pub fn send(&self, address: SocketAddr) -> Result<Reply> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        for (name, value) in self.headers.iter().filter(|(name, _)| !is_of_the_hop(name)) {
            text += &format!("{name}: {value}\r\n");
        }
        text += &format!(
            "host: {address}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            self.body.len()
        );
        stream.write_all(text.as_bytes())?;
        stream.write_all(&self.body)?;
        let mut reader = BufReader::new(&stream);
        let (first, headers) = head(&mut reader)?;
        let status = first.split(' ').nth(1).and_then(|word| word.parse().ok());
        let mut body = Vec::new();
        let len = headers.iter().find(|(name, _)| name == "content-length");
        match len.and_then(|(_, len)| len.parse().ok()) {
            Some(len) => {
                body.resize(len, 0);
                reader.read_exact(&mut body)?;
            }
            None => drop(reader.read_to_end(&mut body)?),
        }
        Ok(Reply { status: status.ok_or("no HTTP")?, body })
    }
}

impl Reply {
    /// One that went well.
    #[must_use]
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, body: body.into() }
    }

    /// An error of AWS's, by its name, as KMS sends it.
    #[must_use]
    pub fn error(status: u16, name: &str) -> Self {
        let body =
            format!("{{\"__type\": {name:?}, \"message\": \"a text that nobody is shown\"}}");
        Self { status, body: body.into_bytes() }
    }

    /// Sends it.
    pub fn write(&self, mut stream: impl Write) -> Result<()> {
        let head = format!(
            "HTTP/1.1 {} Status\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: {}\r\n\
             x-aws-ec2-metadata-token-ttl-seconds: 21600\r\nconnection: close\r\n\r\n",
            self.status,
            self.body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(&self.body)?;
        Ok(())
    }
}

fn is_of_the_hop(name: &str) -> bool {
    ["host", "content-length", "connection", "accept-encoding"].contains(&name)
}

fn head(reader: &mut impl BufRead) -> Result<(String, Vec<(String, String)>)> {
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok((first.trim_end().to_owned(), headers))
}

/// The fields of a form.
pub(crate) fn form(request: &Request) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(&request.body).into_owned();
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (unescaped(name), unescaped(value))).collect()
}

fn unescaped(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((byte, more)) = rest.split_first() {
        rest = more;
        let digits = more.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match (byte, digits.and_then(|two| u8::from_str_radix(two, 16).ok())) {
            (b'%', Some(escaped)) => {
                bytes.push(escaped);
                rest = &more[2..];
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(*byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
