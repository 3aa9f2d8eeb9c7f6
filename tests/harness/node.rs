//! An egress node of a world's hub: a process of its own, enrolled with a token, killed or drained by tests.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use tokio::process::Command;

use crate::namespace::Machine;
use crate::program::{self, Ended, Program};
use crate::world::World;

/// A node and its data directory.
pub struct Node {
    hub_program: PathBuf,
    pub name: &'static str,
    pub home: PathBuf,
    program: Option<Program>,
}

impl Node {
    /// Enrols a node that the hub will dial at `address`.
    pub async fn enrol(world: &World, name: &'static str, address: SocketAddr) -> Self {
        let node = Self {
            hub_program: world.hub.program_path(),
            name,
            home: world.scratch().join(name),
            program: None,
        };
        let token = node.token(world, address).await;
        node.command(&["node", "enrol", &token]).await.succeeded();
        node
    }

    /// Makes a token, which tells the hub where it will dial the node from now on.
    pub async fn token(&self, world: &World, address: SocketAddr) -> String {
        let address = address.to_string();
        let made = world
            .hub
            .json(&["node", "token", self.name, "--address", &address])
            .await;
        made["token"].as_str().expect("a token is printed").to_owned()
    }

    /// Any command of relay-hub on the node's directory.
    pub async fn command(&self, arguments: &[&str]) -> Ended {
        let mut command = program::command(&self.hub_program, Path::new("/"));
        program::run(command.args(arguments).arg("--data").arg(&self.home)).await
    }

    /// Starts serving these vendors.
    pub async fn serve(&mut self, listen: SocketAddr, allow: &str, more: &[&str]) {
        let command = program::command(&self.hub_program, Path::new("/"));
        self.start(command, listen, allow, more).await;
    }

    /// The same on another machine.
    pub async fn serve_on(&mut self, machine: &Machine, listen: SocketAddr, allow: &str, more: &[&str]) {
        let command = machine.command(&self.hub_program, Path::new("/"));
        self.start(command, listen, allow, more).await;
    }

    async fn start(&mut self, mut command: Command, listen: SocketAddr, allow: &str, more: &[&str]) {
        let listen = listen.to_string();
        command
            .args(["egress", "--listen", &listen, "--allow", allow])
            .args(more);
        command.arg("--data").arg(&self.home);
        let log = self.home.with_extension("log");
        let started = Program::start(&mut command, &log).await;
        self.program = Some(started.expect("the node serves"));
    }

    /// Where it listens.
    pub fn listen(&self) -> SocketAddr {
        let ready = &self.program.as_ref().expect("the node was started").ready;
        let listen = ready["listen"].as_str().and_then(|text| text.parse().ok());
        listen.expect("the ready line names its address")
    }

    pub fn program(&mut self) -> &mut Program {
        self.program.as_mut().expect("the node was started")
    }
}
