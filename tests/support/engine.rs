//! Runs Wasm and tells what could be observed, so that a module can be compared with its shrunk
//! self. Runs are bounded by fuel, and the world around them is the same each time.
//!
//! Whatever the guest does is part of the outcome; what keeps it from being run at all (invalid
//! bytes, an unknown import, a missing export) panics.

use std::fmt;
use std::sync::{LazyLock, mpsc};
use std::thread;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use wasmtime::component::{self, Component, ResourceTable};
use wasmtime_wasi::p2::bindings::sync::Command;
use wasmtime_wasi::p2::pipe::{MemoryInputPipe, MemoryOutputPipe};
use wasmtime_wasi::{
    Deterministic, HostMonotonicClock, HostWallClock, I32Exit, WasiCtx, WasiCtxBuilder,
    WasiCtxView, WasiView,
};
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::bindings::sync::Proxy;
use wasmtime_wasi_http::{
    RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

mod interpreter;

pub use interpreter::call_without;
use interpreter::{WasmiInstance, wasmi_run_wasip1};

/// Some seconds' worth, in the slower of the engines too.
const FUEL: u64 = 2_000_000_000;

const OUTPUT_CAPACITY: usize = 64 << 20;

/// What all that a guest draws at random is made of.
const RANDOM: &[u8] = &[7, 91, 13, 200, 5, 66, 147, 31, 252, 118, 83];

/// An engine for core modules; components run in Wasmtime only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Wasmtime,
    Wasmi,
}

impl Engine {
    pub const ALL: [Self; 2] = [Self::Wasmtime, Self::Wasmi];
}

/// What a command did.
#[derive(Clone, PartialEq, Eq)]
pub struct Observed {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub exit: Exit,
}

impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observed")
            .field("stdout", &String::from_utf8_lossy(&self.stdout))
            .field("stderr", &String::from_utf8_lossy(&self.stderr))
            .field("exit", &self.exit)
            .finish()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Trap(Trap),
}

/// Why a guest was stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trap {
    Unreachable,
    MemoryOutOfBounds,
    TableOutOfBounds,
    IndirectCallToNull,
    BadSignature,
    IntegerOverflow,
    DivisionByZero,
    BadConversionToInteger,
    StackOverflow,
    OutOfFuel,
    Other(String),
}

/// A parameter or a result. Floating-point numbers are kept as bits, every NaN as the same one: a
/// NaN's payload is left to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    I32(i32),
    I64(i64),
    F32(u32),
    F64(u64),
    V128(u128),
    /// Of a reference, only whether there is one can be compared.
    Reference {
        null: bool,
    },
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::I32(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::I64(value)
    }
}

impl From<f32> for Value {
    fn from(value: f32) -> Self {
        let value = if value.is_nan() { f32::NAN } else { value };
        Self::F32(value.to_bits())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        let value = if value.is_nan() { f64::NAN } else { value };
        Self::F64(value.to_bits())
    }
}

/// What came of one call.
pub type Outcome = Result<Vec<Value>, Trap>;

/// An HTTP answer; the names of its headers are in lower case.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("headers", &self.headers)
            .field("body", &String::from_utf8_lossy(&self.body))
            .finish()
    }
}

/// Runs a core module's `_start`, with the functions of `wasi_snapshot_preview1`.
///
/// `args` does not hold the program's name.
#[must_use]
pub fn run_wasip1(engine: Engine, bytes: &[u8], args: &[&str], stdin: &[u8]) -> Observed {
    match engine {
        Engine::Wasmtime => wasmtime_run_wasip1(bytes, args, stdin),
        Engine::Wasmi => wasmi_run_wasip1(bytes, args, stdin),
    }
}

/// Runs a component that exports `wasi:cli/run`.
#[must_use]
pub fn run_component_cli(bytes: &[u8], args: &[&str], stdin: &[u8]) -> Observed {
    let (mut wasi, stdout, stderr) = wasi(args, stdin);
    let (component, linker) = component(bytes);
    let mut store = store(Host::new(wasi.build()));
    let outcome = Command::instantiate(&mut store, &component, &linker)
        .and_then(|command| command.wasi_cli_run().call_run(&mut store));
    let exit = match outcome {
        Ok(result) => Exit::Code(i32::from(result.is_err())),
        Err(error) => wasmtime_exit(&error),
    };
    observed(&stdout, &stderr, exit)
}

/// Sends one request to a component that exports `wasi:http/incoming-handler`.
pub fn call_http(bytes: &[u8], method: &str, path: &str, body: &[u8]) -> Result<Answer, Trap> {
    let (mut wasi, ..) = wasi(&[], &[]);
    let (component, linker) = component(bytes);
    let mut store = store(Host::new(wasi.build()));

    let request = http::Request::builder()
        .method(method)
        .uri(format!("http://localhost{path}"))
        .body(Full::from(body.to_vec()))
        .expect("a valid request");
    let request = store
        .data_mut()
        .http()
        .new_incoming_request(Scheme::Http, request)
        .expect("a request with a host");

    // The guest may wait for the body to be read, so another thread reads it.
    let (sender, receiver) = mpsc::channel();
    let reader = thread::spawn(move || receiver.recv().ok().map(read_answer));
    let out = store
        .data_mut()
        .http()
        .new_response_outparam_from_callback(move |response| {
            // Only a guest that traps at once leaves no one to receive.
            let _ = sender.send(response.expect("a response, not an error code"));
        })
        .expect("room in the table");

    let outcome = Proxy::instantiate(&mut store, &component, &linker).and_then(|proxy| {
        proxy
            .wasi_http_incoming_handler()
            .call_handle(&mut store, request, out)
    });
    drop(store);
    let answer = reader.join().expect("the reader does not panic");
    match outcome {
        Ok(()) => Ok(answer.expect("a handler that answers")),
        Err(error) => Err(wasmtime_trap(&error)),
    }
}

/// Instantiates a core module without imports and makes `calls`, each with the name of an export
/// and its parameters, one after the other in the same instance.
#[must_use]
pub fn call_core(engine: Engine, bytes: &[u8], calls: &[(&str, &[Value])]) -> Vec<Outcome> {
    match instantiate(engine, bytes) {
        Ok(mut instance) => calls
            .iter()
            .map(|(name, params)| instance.call(name, params))
            .collect(),
        Err(trap) => vec![Err(trap)],
    }
}

/// Instantiates a core module without imports; an error is a trap of its start function or of its
/// segments.
pub fn instantiate(engine: Engine, bytes: &[u8]) -> Result<Box<dyn Instance>, Trap> {
    Ok(match engine {
        Engine::Wasmtime => Box::new(WasmtimeInstance::new(bytes)?),
        Engine::Wasmi => Box::new(WasmiInstance::new(bytes)?),
    })
}

/// An instance of a core module.
pub trait Instance {
    /// Calls an exported function.
    fn call(&mut self, name: &str, params: &[Value]) -> Outcome;

    /// The memory exported as `memory`.
    fn memory(&mut self) -> &mut [u8];

    /// Copies `bytes` into memory at `address`.
    fn write(&mut self, address: usize, bytes: &[u8]) {
        self.memory()[address..][..bytes.len()].copy_from_slice(bytes);
    }

    /// Copies `length` bytes out of memory at `address`.
    fn read(&mut self, address: usize, length: usize) -> Vec<u8> {
        self.memory()[address..][..length].to_vec()
    }
}

// Wasmtime

static WASMTIME: LazyLock<wasmtime::Engine> = LazyLock::new(|| {
    let mut config = wasmtime::Config::new();
    config
        .consume_fuel(true)
        // Most modules run but once, so compiling them takes longer than running them.
        .cranelift_opt_level(wasmtime::OptLevel::None)
        .wasm_function_references(true)
        .wasm_gc(true)
        .wasm_exceptions(true);
    wasmtime::Engine::new(&config).expect("a valid configuration")
});

fn store<T: 'static>(data: T) -> wasmtime::Store<T> {
    let mut store = wasmtime::Store::new(&WASMTIME, data);
    store.set_fuel(FUEL).expect("fuel is configured");
    store
}

struct Host {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    network: NoNetwork,
    table: ResourceTable,
}

impl Host {
    fn new(wasi: WasiCtx) -> Self {
        Self {
            wasi,
            http: WasiHttpCtx::new(),
            network: NoNetwork,
            table: ResourceTable::new(),
        }
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: &mut self.network,
        }
    }
}

type Sending<T> = Box<dyn Future<Output = wasmtime_wasi_http::Result<T>> + Send>;

/// Denies every request that a guest would send.
struct NoNetwork;

impl WasiHttpHooks for NoNetwork {
    fn send_request(
        &mut self,
        _: http::Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Sending<()>,
    ) -> Sending<(http::Response<WasiBody>, Sending<()>)> {
        Box::new(async { Err(wasmtime_wasi_http::Error::HttpRequestDenied) })
    }
}

/// A clock that stands still.
struct Clock;

impl HostWallClock for Clock {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        Duration::from_secs(1_000_000_000)
    }
}

impl HostMonotonicClock for Clock {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        1_000_000_000
    }
}

fn wasi(args: &[&str], stdin: &[u8]) -> (WasiCtxBuilder, MemoryOutputPipe, MemoryOutputPipe) {
    let stdout = MemoryOutputPipe::new(OUTPUT_CAPACITY);
    let stderr = MemoryOutputPipe::new(OUTPUT_CAPACITY);
    let mut builder = WasiCtxBuilder::new();
    builder
        .arg("guest")
        .args(args)
        .stdin(MemoryInputPipe::new(stdin.to_vec()))
        .stdout(stdout.clone())
        .stderr(stderr.clone())
        .wall_clock(Clock)
        .monotonic_clock(Clock)
        .secure_random(Deterministic::new(RANDOM.to_vec()))
        .insecure_random(Deterministic::new(RANDOM.to_vec()))
        .insecure_random_seed(42);
    (builder, stdout, stderr)
}

fn observed(stdout: &MemoryOutputPipe, stderr: &MemoryOutputPipe, exit: Exit) -> Observed {
    Observed {
        stdout: stdout.contents().to_vec(),
        stderr: stderr.contents().to_vec(),
        exit,
    }
}

fn component(bytes: &[u8]) -> (Component, component::Linker<Host>) {
    let component = Component::new(&WASMTIME, bytes).expect("a valid component");
    let mut linker = component::Linker::new(&WASMTIME);
    wasmtime_wasi::p2::add_to_linker_sync(&mut linker)
        .and_then(|()| wasmtime_wasi_http::p2::add_only_http_to_linker_sync(&mut linker))
        .expect("no name is defined twice");
    (component, linker)
}

fn read_answer<B>(response: http::Response<B>) -> Answer
where
    B: BodyExt<Error: fmt::Debug>,
{
    let (parts, body) = response.into_parts();
    let body = wasmtime_wasi::runtime::in_tokio(body.collect()).expect("a whole body");
    Answer {
        status: parts.status.as_u16(),
        headers: parts
            .headers
            .iter()
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes());
                (name.to_string(), value.into_owned())
            })
            .collect(),
        body: body.to_bytes().to_vec(),
    }
}

fn wasmtime_run_wasip1(bytes: &[u8], args: &[&str], stdin: &[u8]) -> Observed {
    let (mut wasi, stdout, stderr) = wasi(args, stdin);
    let module = wasmtime::Module::new(&WASMTIME, bytes).expect("a valid module");
    let mut linker = wasmtime::Linker::new(&WASMTIME);
    wasmtime_wasi::p1::add_to_linker_sync(&mut linker, |wasi| wasi)
        .expect("no name is defined twice");
    let mut store = store(wasi.build_p1());
    let outcome = linker
        .instantiate(&mut store, &module)
        .and_then(|instance| instance.get_typed_func::<(), ()>(&mut store, "_start"))
        .and_then(|start| start.call(&mut store, ()));
    let exit = match outcome {
        Ok(()) => Exit::Code(0),
        Err(error) => wasmtime_exit(&error),
    };
    // The pipes are complete only once the guest's streams are gone.
    drop(store);
    observed(&stdout, &stderr, exit)
}

fn wasmtime_exit(error: &wasmtime::Error) -> Exit {
    match error.downcast_ref::<I32Exit>() {
        Some(exit) => Exit::Code(exit.0),
        None => Exit::Trap(wasmtime_trap(error)),
    }
}

fn wasmtime_trap(error: &wasmtime::Error) -> Trap {
    use wasmtime::Trap as Code;

    let Some(code) = error.downcast_ref::<Code>() else {
        panic!("not a trap: {error:?}");
    };
    match code {
        Code::UnreachableCodeReached => Trap::Unreachable,
        Code::MemoryOutOfBounds => Trap::MemoryOutOfBounds,
        Code::TableOutOfBounds => Trap::TableOutOfBounds,
        Code::IndirectCallToNull => Trap::IndirectCallToNull,
        Code::BadSignature => Trap::BadSignature,
        Code::IntegerOverflow => Trap::IntegerOverflow,
        Code::IntegerDivisionByZero => Trap::DivisionByZero,
        Code::BadConversionToInteger => Trap::BadConversionToInteger,
        Code::StackOverflow => Trap::StackOverflow,
        Code::OutOfFuel => Trap::OutOfFuel,
        code => Trap::Other(code.to_string()),
    }
}

struct WasmtimeInstance {
    store: wasmtime::Store<()>,
    instance: wasmtime::Instance,
}

impl WasmtimeInstance {
    fn new(bytes: &[u8]) -> Result<Self, Trap> {
        let module = wasmtime::Module::new(&WASMTIME, bytes).expect("a valid module");
        let mut store = store(());
        let instance = wasmtime::Instance::new(&mut store, &module, &[])
            .map_err(|error| wasmtime_trap(&error))?;
        Ok(Self { store, instance })
    }
}

impl Instance for WasmtimeInstance {
    fn call(&mut self, name: &str, params: &[Value]) -> Outcome {
        use wasmtime::Val;

        let function = self
            .instance
            .get_func(&mut self.store, name)
            .unwrap_or_else(|| panic!("no function is exported as {name}"));
        let params: Vec<_> = params
            .iter()
            .map(|param| match *param {
                Value::I32(value) => Val::I32(value),
                Value::I64(value) => Val::I64(value),
                Value::F32(bits) => Val::F32(bits),
                Value::F64(bits) => Val::F64(bits),
                Value::V128(bits) => Val::V128(bits.into()),
                Value::Reference { .. } => panic!("references can only be results"),
            })
            .collect();
        let mut results = vec![Val::I32(0); function.ty(&self.store).results().len()];
        function
            .call(&mut self.store, &params, &mut results)
            .map_err(|error| wasmtime_trap(&error))?;
        Ok(results
            .into_iter()
            .map(|result| match result {
                Val::I32(value) => value.into(),
                Val::I64(value) => value.into(),
                Val::F32(bits) => f32::from_bits(bits).into(),
                Val::F64(bits) => f64::from_bits(bits).into(),
                Val::V128(bits) => Value::V128(bits.as_u128()),
                reference => Value::Reference {
                    null: reference.ref_().is_some_and(|it| it.is_null()),
                },
            })
            .collect())
    }

    fn memory(&mut self) -> &mut [u8] {
        self.instance
            .get_memory(&mut self.store, "memory")
            .expect("an exported memory")
            .data_mut(&mut self.store)
    }
}
