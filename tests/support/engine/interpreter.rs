//! The second engine: Wasmi, for core modules.

use wasmi_wasi::wasi_common;

use super::*;

fn wasmi_engine() -> wasmi::Engine {
    let mut config = wasmi::Config::default();
    config.consume_fuel(true).wasm_simd(true);
    wasmi::Engine::new(&config)
}

fn wasmi_load<T>(bytes: &[u8], data: T) -> (wasmi::Store<T>, wasmi::Module) {
    let engine = wasmi_engine();
    let module = wasmi::Module::new(&engine, bytes).expect("a module valid in wasmi");
    let mut store = wasmi::Store::new(&engine, data);
    store.set_fuel(FUEL).expect("fuel is configured");
    (store, module)
}

/// Calls an export in an interpreter with that configuration, which gives no imports and may
/// lack proposals; why not, where it does not take the module or the call traps.
pub fn call_without<P, R>(
    config: &wasmi::Config,
    bytes: &[u8],
    name: &str,
    args: P,
) -> Result<R, String>
where
    P: wasmi::WasmParams,
    R: wasmi::WasmResults,
{
    let engine = wasmi::Engine::new(config);
    let module = wasmi::Module::new(&engine, bytes).map_err(|e| e.to_string())?;
    let mut store = wasmi::Store::new(&engine, ());
    let instance = wasmi::Linker::<()>::new(&engine)
        .instantiate_and_start(&mut store, &module)
        .map_err(|e| e.to_string())?;
    let function = instance
        .get_typed_func::<P, R>(&store, name)
        .map_err(|e| e.to_string())?;
    function.call(&mut store, args).map_err(|e| e.to_string())
}

pub fn wasmi_run_wasip1(bytes: &[u8], args: &[&str], stdin: &[u8]) -> Observed {
    use wasi_common::pipe::{ReadPipe, WritePipe};
    use wasi_common::sync::{clocks_ctx, sched_ctx};

    let random = wasi_common::random::Deterministic::new(RANDOM.to_vec());
    let mut wasi = wasi_common::WasiCtx::new(
        Box::new(random),
        clocks_ctx(),
        sched_ctx(),
        wasi_common::Table::new(),
    );
    for arg in ["guest"].iter().chain(args) {
        wasi.push_arg(arg).expect("an argument without NUL");
    }
    let (stdout, stderr) = (WritePipe::new_in_memory(), WritePipe::new_in_memory());
    wasi.set_stdin(Box::new(ReadPipe::from(stdin)));
    wasi.set_stdout(Box::new(stdout.clone()));
    wasi.set_stderr(Box::new(stderr.clone()));

    let (mut store, module) = wasmi_load(bytes, wasi);
    let mut linker = wasmi::Linker::new(store.engine());
    wasmi_wasi::add_to_linker(&mut linker, |wasi| wasi).expect("no name is defined twice");
    let outcome = linker
        .instantiate_and_start(&mut store, &module)
        .and_then(|instance| instance.get_typed_func::<(), ()>(&store, "_start"))
        .and_then(|start| start.call(&mut store, ()));
    let exit = match outcome {
        Ok(()) => Exit::Code(0),
        Err(error) => match error.i32_exit_status() {
            Some(code) => Exit::Code(code),
            None => Exit::Trap(wasmi_trap(&error)),
        },
    };
    drop(store);
    let contents = |pipe: WritePipe<std::io::Cursor<Vec<u8>>>| {
        let pipe = pipe.try_into_inner().ok();
        pipe.expect("the guest's end is closed").into_inner()
    };
    Observed {
        stdout: contents(stdout),
        stderr: contents(stderr),
        exit,
    }
}

fn wasmi_trap(error: &wasmi::Error) -> Trap {
    use wasmi::TrapCode as Code;
    use wasmi::errors::{ErrorKind, InstantiationError};

    // An active segment that does not fit is an error of its own here.
    if let ErrorKind::Instantiation(InstantiationError::ElementSegmentDoesNotFit { .. }) =
        error.kind()
    {
        return Trap::TableOutOfBounds;
    }
    let Some(code) = error.as_trap_code() else {
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

pub struct WasmiInstance {
    store: wasmi::Store<()>,
    instance: wasmi::Instance,
}

impl WasmiInstance {
    pub fn new(bytes: &[u8]) -> Result<Self, Trap> {
        let (mut store, module) = wasmi_load(bytes, ());
        let instance = wasmi::Linker::new(store.engine())
            .instantiate_and_start(&mut store, &module)
            .map_err(|error| wasmi_trap(&error))?;
        Ok(Self { store, instance })
    }
}

impl Instance for WasmiInstance {
    fn call(&mut self, name: &str, params: &[Value]) -> Outcome {
        use wasmi::Val;

        let function = self
            .instance
            .get_func(&self.store, name)
            .unwrap_or_else(|| panic!("no function is exported as {name}"));
        let params: Vec<_> = params
            .iter()
            .map(|param| match *param {
                Value::I32(value) => Val::I32(value),
                Value::I64(value) => Val::I64(value),
                Value::F32(bits) => Val::F32(wasmi::F32::from_bits(bits)),
                Value::F64(bits) => Val::F64(wasmi::F64::from_bits(bits)),
                Value::V128(bits) => Val::V128(bits.into()),
                Value::Reference { .. } => panic!("references can only be results"),
            })
            .collect();
        let mut results = vec![Val::I32(0); function.ty(&self.store).results().len()];
        function
            .call(&mut self.store, &params, &mut results)
            .map_err(|error| wasmi_trap(&error))?;
        Ok(results
            .into_iter()
            .map(|result| match result {
                Val::I32(value) => value.into(),
                Val::I64(value) => value.into(),
                Val::F32(value) => f32::from_bits(value.to_bits()).into(),
                Val::F64(value) => f64::from_bits(value.to_bits()).into(),
                Val::V128(value) => Value::V128(value.as_u128()),
                Val::FuncRef(function) => Value::Reference {
                    null: function.is_null(),
                },
                Val::ExternRef(object) => Value::Reference {
                    null: object.is_null(),
                },
            })
            .collect())
    }

    fn memory(&mut self) -> &mut [u8] {
        self.instance
            .get_memory(&self.store, "memory")
            .expect("an exported memory")
            .data_mut(&mut self.store)
    }
}
