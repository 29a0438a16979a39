//! The logging macros, re-exported from [`super`] by their short names.

/// Logs at a level.
#[doc(hidden)]
#[macro_export]
macro_rules! __vlog {
    ($level:ident, $module:expr, $($arg:tt)+) => {{
        let module: &$crate::vlog::Module = &$module;
        if module.enabled($crate::vlog::Level::$level) {
            $crate::vlog::write(module, $crate::vlog::Level::$level, format_args!($($arg)+));
        }
    }};
}

/// Logs at a level unless the rate limit is exceeded.
#[doc(hidden)]
#[macro_export]
macro_rules! __vlog_rl {
    ($level:ident, $rl:expr, $module:expr, $($arg:tt)+) => {{
        let module: &$crate::vlog::Module = &$module;
        if !$rl.should_drop(module, $crate::vlog::Level::$level) {
            $crate::vlog::write(module, $crate::vlog::Level::$level, format_args!($($arg)+));
        }
    }};
}

/// Logs at level Emer: module, format, arguments.
#[doc(hidden)]
#[macro_export]
macro_rules! __vlog_emer {
    ($($arg:tt)+) => { $crate::__vlog!(Emer, $($arg)+) };
}

/// Logs at level Emer within a rate limit: limit, module, format, arguments.
#[doc(hidden)]
#[macro_export]
macro_rules! __vlog_emer_rl {
    ($($arg:tt)+) => { $crate::__vlog_rl!(Emer, $($arg)+) };
}

/// Logs at level Err: module, format, arguments.
#[doc(hidden)]
#[macro_export]
macro_rules! __vlog_err {
    ($($arg:tt)+) => { $crate::__vlog!(Err, $($arg)+) };
}

/// Logs at level Err within a rate limit: limit, module, format, arguments.
#[doc(hidden)]
#[macro_export]
macro_rules! __vlog_err_rl {
    ($($arg:tt)+) => { $crate::__vlog_rl!(Err, $($arg)+) };
}

/// Logs at level Warn: module, format, arguments.
#[doc(hidden)]
#[macro_export]
macro_rules! __vlog_warn {
    ($($arg:tt)+) => { $crate::__vlog!(Warn, $($arg)+) };
}

/// Logs at level Warn within a rate limit: limit, module, format, arguments.
#[doc(hidden)]
#[macro_export]
macro_rules! __vlog_warn_rl {
    ($($arg:tt)+) => { $crate::__vlog_rl!(Warn, $($arg)+) };
}

/// Logs at level Info: module, format, arguments.
#[doc(hidden)]
#[macro_export]
macro_rules! __vlog_info {
    ($($arg:tt)+) => { $crate::__vlog!(Info, $($arg)+) };
}

/// Logs at level Info within a rate limit: limit, module, format, arguments.
#[doc(hidden)]
#[macro_export]
macro_rules! __vlog_info_rl {
    ($($arg:tt)+) => { $crate::__vlog_rl!(Info, $($arg)+) };
}

/// Logs at level Dbg: module, format, arguments.
#[doc(hidden)]
#[macro_export]
macro_rules! __vlog_dbg {
    ($($arg:tt)+) => { $crate::__vlog!(Dbg, $($arg)+) };
}

/// Logs at level Dbg within a rate limit: limit, module, format, arguments.
#[doc(hidden)]
#[macro_export]
macro_rules! __vlog_dbg_rl {
    ($($arg:tt)+) => { $crate::__vlog_rl!(Dbg, $($arg)+) };
}
