//! An editor without a screen: speaks LSP to the real `yaml-language-server` over its standard
//! streams.
//!
//! Knows just enough of the protocol (LSP 3.17) to open documents, read what is marked, complete
//! and hover. Every wait has a deadline, every message a largest size; the server is killed and
//! reaped when the editor goes. Proves nothing by itself: see `tests/tests/editor.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::sources::workspace_root;

/// Longest wait for one answer; node starts slowly on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(60);
/// Largest message taken.
const MESSAGE_MAX: usize = 16 * 1024 * 1024;

/// Something the editor underlines. Lines and columns count from 1, as in Stead's messages.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// Line of its first character.
    pub line: u64,
    /// Column of its first character.
    pub column: u64,
    /// What the server says about it.
    pub message: String,
}

/// One running language server.
#[derive(Debug)]
pub struct Editor {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    last: u64,
}

impl Editor {
    /// Starts the server and tells it to use the schemas that documents name, and no catalogue.
    ///
    /// # Panics
    /// When it isn't installed, doesn't start or doesn't answer.
    #[must_use]
    pub fn start() -> Self {
        let mut child = Command::new(server_program())
            .arg("--stdio")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("yaml-language-server starts: is `node` installed? tests/run installs it");
        let to = child.stdin.take().expect("its input is piped");
        let out = child.stdout.take().expect("its output is piped");
        let (sender, from) = channel();
        std::thread::spawn(move || read_messages(out, &sender));
        let mut editor = Self {
            child,
            to,
            from,
            last: 0,
        };
        let root = uri(&workspace_root());
        let hover = json!({"contentFormat": ["markdown"]});
        let capabilities = json!({"textDocument": {"publishDiagnostics": {}, "hover": hover}});
        editor.ask(
            "initialize",
            &json!({
                "processId": std::process::id(), "rootUri": root, "capabilities": capabilities
            }),
        );
        editor.tell("initialized", &json!({}));
        let yaml = json!({
            "schemaStore": {"enable": false}, "validate": true, "completion": true, "hover": true
        });
        editor.tell(
            "workspace/didChangeConfiguration",
            &json!({"settings": {"yaml": yaml}}),
        );
        editor
    }

    /// Opens a document and answers what is marked in it.
    ///
    /// # Panics
    /// When the server says nothing within the deadline.
    pub fn open(&mut self, path: &Path, text: &str) -> BTreeSet<Mark> {
        let uri = uri(path);
        let document = json!({"uri": uri, "languageId": "yaml", "version": 1, "text": text});
        self.tell("textDocument/didOpen", &json!({"textDocument": document}));
        let end = Instant::now() + DEADLINE;
        loop {
            let message = self.next(end, &uri);
            let params = &message["params"];
            if message["method"] == "textDocument/publishDiagnostics" && params["uri"] == *uri {
                let marks = params["diagnostics"].as_array().expect("a list of marks");
                return marks.iter().map(mark).collect();
            }
        }
    }

    /// What is offered at a place of an open document: label and help text.
    ///
    /// # Panics
    /// When the server doesn't answer within the deadline.
    pub fn complete(&mut self, path: &Path, line: u64, column: u64) -> BTreeMap<String, String> {
        let answer = self.ask("textDocument/completion", &place(path, line, column));
        let items = answer.get("items").unwrap_or(&answer);
        let items = items.as_array().cloned().unwrap_or_default();
        items
            .iter()
            .map(|item| (words(&item["label"]), words(&item["documentation"])))
            .collect()
    }

    /// What is shown for a place of an open document.
    ///
    /// # Panics
    /// When the server doesn't answer within the deadline.
    pub fn hover(&mut self, path: &Path, line: u64, column: u64) -> String {
        let answer = self.ask("textDocument/hover", &place(path, line, column));
        words(&answer["contents"])
    }

    fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.last += 1;
        let id = self.last;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        let end = Instant::now() + DEADLINE;
        loop {
            let message = self.next(end, method);
            if message["id"] == id && message.get("method").is_none() {
                let error = message.get("error");
                assert!(error.is_none(), "{method}: {message}");
                return message["result"].clone();
            }
        }
    }

    fn tell(&mut self, method: &str, params: &Value) {
        self.send(&json!({"jsonrpc": "2.0", "method": method, "params": params}));
    }

    /// The next message; requests of the server are answered with nothing.
    fn next(&mut self, end: Instant, what: &str) -> Value {
        let left = end.saturating_duration_since(Instant::now());
        let message = match self.from.recv_timeout(left) {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) => panic!("no answer to {what} within {DEADLINE:?}"),
            Err(RecvTimeoutError::Disconnected) => {
                panic!(
                    "the server ended during {what}: {:?}",
                    self.child.try_wait()
                )
            }
        };
        if let (Some(id), Some(_)) = (message.get("id"), message.get("method")) {
            self.send(&json!({"jsonrpc": "2.0", "id": id, "result": null}));
        }
        message
    }

    fn send(&mut self, message: &Value) {
        let body = message.to_string();
        write!(self.to, "Content-Length: {}\r\n\r\n{body}", body.len())
            .and_then(|()| self.to.flush())
            .expect("the server reads what it is sent");
    }
}

impl Drop for Editor {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Where tests/run installs it.
fn server_program() -> PathBuf {
    let tools = std::env::var_os("STEAD_TEST_TOOLS")
        .map_or_else(|| workspace_root().join("target/tools"), PathBuf::from);
    let program = tools.join("node_modules/.bin/yaml-language-server");
    assert!(
        program.exists(),
        "{} is missing: npm install --prefix {} yaml-language-server@1 (tests/run does it)",
        program.display(),
        tools.display()
    );
    program
}

/// Reads messages until the stream ends or one makes no sense; the channel closes then.
fn read_messages(out: ChildStdout, sender: &Sender<Value>) {
    let mut out = BufReader::new(out);
    while let Some(message) = read_message(&mut out) {
        if sender.send(message).is_err() {
            return;
        }
    }
}

fn read_message(out: &mut BufReader<ChildStdout>) -> Option<Value> {
    let mut length = None;
    loop {
        let mut line = String::new();
        if out.by_ref().take(4_096).read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            header => {
                if let Some(value) = header.strip_prefix("Content-Length:") {
                    length = value.trim().parse::<usize>().ok();
                }
            }
        }
    }
    let length = length.filter(|length| *length <= MESSAGE_MAX)?;
    let mut body = vec![0; length];
    out.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}

fn mark(diagnostic: &Value) -> Mark {
    let start = &diagnostic["range"]["start"];
    let number = |key: &str| start[key].as_u64().expect("a position is a number") + 1;
    Mark {
        line: number("line"),
        column: number("character"),
        message: words(&diagnostic["message"]),
    }
}

fn place(path: &Path, line: u64, column: u64) -> Value {
    json!({
        "textDocument": {"uri": uri(path)},
        "position": {"line": line - 1, "character": column - 1}
    })
}

/// A text, or the text of a markup.
fn words(value: &Value) -> String {
    let text = value.as_str().or_else(|| value["value"].as_str());
    text.unwrap_or_default().to_owned()
}

fn uri(path: &Path) -> String {
    format!("file://{}", path.display())
}
