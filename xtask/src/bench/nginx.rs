//! nginx as a plain reverse proxy before the scripted vendor: the yardstick. It authenticates nobody,
//! counts nothing and keeps no books.

use std::{fs, net::TcpListener, process::Command, time::Duration};

use anyhow::{Context, Result};

use crate::{
    paths, say,
    stand::{FILES, Stand, child::Running, with_files},
};

/// A running nginx.
pub(crate) struct Nginx {
    running: Running,
    pub(crate) url: String,
    /// Version and settings, for the conditions of the table.
    pub(crate) about: String,
}

impl Nginx {
    /// Starts nginx when it is installed.
    pub(crate) fn start(stand: &Stand) -> Result<Option<Self>> {
        let Some(program) = paths::find("nginx", &["/usr/sbin".into(), "/usr/local/sbin".into()]) else {
            say::line("nginx            not installed: the table goes without it");
            return Ok(None);
        };
        let vendor = stand.vendor_url.as_deref().context("the bench has a scripted vendor")?;
        let folder = stand.folder().join("nginx");
        fs::create_dir_all(&folder)?;
        let port = free_port()?;
        let file = folder.join("nginx.conf");
        let vendor = vendor.trim_start_matches("http://");
        fs::write(
            &file,
            CONFIG.replace("VENDOR", vendor).replace("PORT", &port.to_string()),
        )?;
        let mut command = with_files(&program, FILES);
        command
            .arg("-e")
            .arg(folder.join("error.log"))
            .arg("-p")
            .arg(&folder)
            .arg("-c")
            .arg(&file);
        let running = Running::start("nginx", command, &folder)?;
        let url = format!("http://127.0.0.1:{port}");
        await_port(port).with_context(|| format!("nginx does not listen: {}", running.last_words()))?;
        let version = Command::new(&program)
            .arg("-v")
            .output()
            .map(|said| said.stderr)
            .unwrap_or_default();
        let version = String::from_utf8_lossy(&version).trim().replace("nginx version: ", "");
        say::line(&format!("nginx            {url} ({version})"));
        Ok(Some(Self {
            running,
            url,
            about: format!("{version}, {SETTINGS}"),
        }))
    }

    pub(crate) fn id(&self) -> u32 {
        self.running.id()
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn await_port(port: u16) -> Result<()> {
    for _ in 0..250 {
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    anyhow::bail!("no connection within 5 s")
}

const SETTINGS: &str = "2 workers, keep-alive on both sides, proxy_buffering off, no log, no TLS";

const CONFIG: &str = r"daemon off;
worker_processes 2;
pid nginx.pid;
error_log stderr crit;
events { worker_connections 20000; }
http {
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  keepalive_requests 1000000000;
  keepalive_timeout 600s;
  upstream vendor { server VENDOR; keepalive 1024; keepalive_requests 1000000000; }
  server {
    listen 127.0.0.1:PORT backlog=8192;
    client_body_buffer_size 1m;
    location / {
      proxy_pass http://vendor;
      proxy_http_version 1.1;
      proxy_set_header Connection '';
      proxy_buffering off;
      proxy_read_timeout 600s;
    }
  }
}
";
